"""The configuration of a bed's containerd: pure text."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from tests.harness.runtimes import KATA_HOST_DEVICES, KATA_SECCOMP, Runtime

#: The first release whose configuration is of version 3, in which CRI is several plugins.
_SPLIT_CRI = (2, 0)

#: The first release that takes a list of directories with CNI plugins; later ones take nothing else.
_BIN_DIRS = (2, 1)


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
    release: tuple[int, int] = (1, 6),
    sandboxer: str = "podsandbox",
) -> str:
    """config.toml for a release of containerd, with CRI, runtimes runc and kata, and nothing outside `paths`.

    From 2.0 on `sandboxer` tells who makes the pods of the kata handlers. `seccomp_config` is the kata configuration of
    the handler whose guests apply seccomp profiles.

    `restrict_oom_score_adj` keeps CRI from asking for scores that need CAP_SYS_RESOURCE, which a container or a
    sandboxed build machine may not have.
    """
    split_cri = release >= _SPLIT_CRI
    cri = 'plugins."io.containerd.cri.v1.runtime"' if split_cri else 'plugins."io.containerd.grpc.v1.cri"'
    maker = [f"  sandboxer = {_text(sandboxer)}"] if split_cri else []
    lines = [
        f"version = {3 if split_cri else 2}",
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
        *(_split_cri(cri, pause_image) if split_cri else _cri(cri, pause_image)),
        "  restrict_oom_score_adj = true",
        "  enable_unprivileged_ports = false",
        f"[{cri}.cni]",
        f"  bin_dirs = [{_text(cni_bin)}]" if release >= _BIN_DIRS else f"  bin_dir = {_text(cni_bin)}",
        f"  conf_dir = {_text(paths.cni_conf)}",
        f"[{cri}.containerd]",
        *([] if split_cri else ['  snapshotter = "overlayfs"']),
        '  default_runtime_name = "runc"',
        f"[{cri}.containerd.runtimes.runc]",
        '  runtime_type = "io.containerd.runc.v2"',
        f"[{cri}.containerd.runtimes.kata]",
        '  runtime_type = "io.containerd.kata.v2"',
        *maker,
        '  pod_annotations = ["io.katacontainers.*"]',
        '  container_annotations = ["io.katacontainers.*"]',
        "  privileged_without_host_devices = true",
        f"[{cri}.containerd.runtimes.kata.options]",
        f"  ConfigPath = {_text(kata_config)}",
        *_kata_handler(cri, KATA_SECCOMP, True, seccomp_config or kata_config, maker),
        *_kata_handler(cri, KATA_HOST_DEVICES, False, kata_config, maker),
    ]
    return "\n".join(lines) + "\n"


def _cri(cri: str, pause_image: str) -> list[str]:
    """The beginning of CRI's table, up to 1.7: one plugin."""
    return [f"[{cri}]", f"  sandbox_image = {_text(pause_image)}", '  stream_server_address = "127.0.0.1"']


def _split_cri(cri: str, pause_image: str) -> list[str]:
    """The same since 2.0: several plugins. NRI is on by default there, with a socket that is the machine's."""
    return [
        '[plugins."io.containerd.nri.v1.nri"]',
        "  disable = true",
        '[plugins."io.containerd.cri.v1.images"]',
        '  snapshotter = "overlayfs"',
        '[plugins."io.containerd.cri.v1.images".pinned_images]',
        f"  sandbox = {_text(pause_image)}",
        '[plugins."io.containerd.grpc.v1.cri"]',
        '  stream_server_address = "127.0.0.1"',
        f"[{cri}]",
    ]


def _kata_handler(
    cri: str, runtime: Runtime, without_host_devices: bool, configuration: Path, maker: list[str]
) -> list[str]:
    """The lines of a further handler of the kata runtime, with those of its sandboxer."""
    table = f"{cri}.containerd.runtimes.{runtime.name}"
    return [
        f"[{table}]",
        f"  runtime_type = {_text(runtime.type)}",
        *maker,
        f"  privileged_without_host_devices = {str(without_host_devices).lower()}",
        f"[{table}.options]",
        f"  ConfigPath = {_text(configuration)}",
    ]


def _text(value: object) -> str:
    """A TOML basic string; JSON's escapes are a subset of TOML's."""
    return json.dumps(str(value))
