"""The configuration of a bed's containerd: pure text."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from tests.harness.runtimes import KATA_HOST_DEVICES, KATA_SECCOMP, Runtime


@dataclass(frozen=True)
class ContainerdPaths:
    """Everything of one containerd that is private to it."""

    root: Path
    state: Path
    socket: Path
    cni_conf: Path
    opt: Path


def render(
    paths: ContainerdPaths,
    *,
    pause_image: str,
    kata_config: Path,
    cni_bin: Path,
    seccomp_config: Path | None = None,
    debug: bool = False,
) -> str:
    """config.toml (version 2, containerd 1.6 and 1.7) with CRI, runtimes runc and kata, and nothing outside `paths`.

    `seccomp_config` is the kata configuration of the handler whose guests apply seccomp profiles.

    `restrict_oom_score_adj` keeps CRI from asking for scores that need CAP_SYS_RESOURCE, which a container or a
    sandboxed build machine may not have.
    """
    cri = 'plugins."io.containerd.grpc.v1.cri"'
    lines = [
        "version = 2",
        f"root = {_text(paths.root)}",
        f"state = {_text(paths.state)}",
        'disabled_plugins = ["io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs",'
        ' "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs"]',
        "[grpc]",
        f"  address = {_text(paths.socket)}",
        "[debug]",
        f"  level = {_text('debug' if debug else 'info')}",
        '[plugins."io.containerd.internal.v1.opt"]',
        f"  path = {_text(paths.opt)}",
        f"[{cri}]",
        f"  sandbox_image = {_text(pause_image)}",
        "  restrict_oom_score_adj = true",
        "  enable_unprivileged_ports = false",
        '  stream_server_address = "127.0.0.1"',
        f"[{cri}.cni]",
        f"  bin_dir = {_text(cni_bin)}",
        f"  conf_dir = {_text(paths.cni_conf)}",
        f"[{cri}.containerd]",
        '  snapshotter = "overlayfs"',
        '  default_runtime_name = "runc"',
        f"[{cri}.containerd.runtimes.runc]",
        '  runtime_type = "io.containerd.runc.v2"',
        f"[{cri}.containerd.runtimes.kata]",
        '  runtime_type = "io.containerd.kata.v2"',
        '  pod_annotations = ["io.katacontainers.*"]',
        '  container_annotations = ["io.katacontainers.*"]',
        "  privileged_without_host_devices = true",
        f"[{cri}.containerd.runtimes.kata.options]",
        f"  ConfigPath = {_text(kata_config)}",
        *_kata_handler(cri, KATA_SECCOMP, True, seccomp_config or kata_config),
        *_kata_handler(cri, KATA_HOST_DEVICES, False, kata_config),
    ]
    return "\n".join(lines) + "\n"


def _kata_handler(cri: str, runtime: Runtime, without_host_devices: bool, configuration: Path) -> list[str]:
    """The lines of a further handler of the kata runtime."""
    table = f"{cri}.containerd.runtimes.{runtime.name}"
    return [
        f"[{table}]",
        f"  runtime_type = {_text(runtime.type)}",
        f"  privileged_without_host_devices = {str(without_host_devices).lower()}",
        f"[{table}.options]",
        f"  ConfigPath = {_text(configuration)}",
    ]


def _text(value: object) -> str:
    """A TOML basic string; JSON's escapes are a subset of TOML's."""
    return json.dumps(str(value))
