"""`[runtime]`: what holds for the pod as a whole."""

# ruff: noqa: RUF009 (`key` makes a field whose default is immutable)

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from config.bind_mounts import BindMount, BindMounts
from config.keys import key
from config.rules import AbsolutePath, Choice, Flag, Integer


@dataclass(frozen=True, kw_only=True)
class RuntimeConfig:
    """Keys of `[runtime]`."""

    enable_debug: bool = key(False, Flag(), "Let the shim log at debug level.")
    internetworking_model: str = key(
        "tcfilter",
        Choice(("tcfilter", "macvtap", "none"), ("bridged", "enlightened")),
        "How an interface of the pod's network namespace reaches the VM: `tcfilter` (a tap device and "
        "traffic redirected both ways, for any kind of interface), `macvtap`, or `none` (the VM gets no interface).",
    )
    disable_guest_seccomp: bool = key(
        True, Flag(), "Drop the containers' seccomp profiles; `false` has them applied in the guest."
    )
    sandbox_cgroup_only: bool = key(
        False,
        Flag(),
        "Put the shim, QEMU and virtiofsd into the pod's own cgroup, so that its limits hold for them too; `false` "
        "puts QEMU's vCPUs there, and the rest into `/kata_overhead` (cgroup v2: all is in the pod's).",
    )
    static_sandbox_resource_mgmt: bool = key(
        False,
        Flag(),
        "Size the VM once, from the pod's declared resources, and never plug CPUs or memory later.",
    )
    disable_guest_empty_dir: bool = key(
        True,
        Flag(),
        "Keep Kubernetes' emptyDir volumes on the host, shared with the guest; `false` makes them in the guest.",
    )
    sandbox_bind_mounts: tuple[BindMount, ...] = key(
        (),
        BindMounts(),
        "Paths of the host that every sandbox has in its guest, read-only unless `:rw` follows, at "
        "`/run/kata-containers/shared/containers/sandbox-mounts/<last part of the path>`: for guest hooks, say. "
        'Not with `shared_fs = "none"`.',
    )
    create_container_timeout: int = key(
        60,
        Integer(1, 86400, "s"),
        "How long the agent may take for one CreateContainer, in seconds; containerd's own deadline may be shorter.",
    )
    kubelet_root_dir: Path = key(
        Path("/var/lib/kubelet"),
        AbsolutePath(),
        "Kubelet's root directory, by which volumes of Kubernetes are recognised.",
    )
    max_parallel_boots: int = key(
        0,
        Integer(0, 10000, "VMs"),
        "How many VMs of the node boot, or are restored from a template, at a time; further ones wait, in the order "
        "in which they come. 0 means two for each processor. Not a key of Kata's.",
    )
