"""The guest's kernel command line: pure.

Three kinds of guest: ours (an initrd that loads modules and mounts the image), and Kata's stock ones (an image with
systemd, or an initrd with the agent as init), which get what Kata's runtime gives them.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum


class GuestKind(Enum):
    """Which guest the configuration names."""

    OWN = "own"
    KATA_IMAGE = "kata-image"
    KATA_INITRD = "kata-initrd"


#: For every guest on x86: skip probing for hardware that the machine does not have, and let a panic end the VM at once.
_COMMON = (
    "tsc=reliable",
    "no_timer_check",
    "rcupdate.rcu_expedited=1",
    "i8042.direct=1",
    "i8042.dumbkbd=1",
    "i8042.nopnp=1",
    "i8042.noaux=1",
    "noreplace-smp",
    "reboot=k",
    "cryptomgr.notests",
    "net.ifnames=0",
    "pci=lastbus=0",
    "panic=1",
    "selinux=0",
)
_KATA_SYSTEMD = (
    "systemd.unit=kata-containers.target",
    "systemd.mask=systemd-networkd.service",
    "systemd.mask=systemd-networkd.socket",
)


def guest_kind(*, image: bool, initrd: bool) -> GuestKind:
    """Tell the guest by what the configuration names: both make our guest, either alone is Kata's."""
    if image and initrd:
        return GuestKind.OWN
    return GuestKind.KATA_IMAGE if image else GuestKind.KATA_INITRD


def kernel_params(
    kind: GuestKind,
    rootfs_type: str,
    max_vcpus: int,
    extra: Sequence[str],
    *,
    agent_debug: bool,
    debug_console: bool,
) -> tuple[str, ...]:
    """The parameters in order; the configuration's own (`extra`) come late, so that they win."""
    params = [*_COMMON, f"nr_cpus={max_vcpus}", "console=ttyS0", "quiet"]
    if kind is GuestKind.KATA_IMAGE:
        params += [
            "root=/dev/vda1",
            "ro",
            f"rootfstype={rootfs_type}",
            "systemd.show_status=false",
            *_KATA_SYSTEMD,
        ]
    params += extra
    if agent_debug:
        params.append("agent.log=debug")
    if debug_console:
        params += ["agent.debug_console", "agent.debug_console_vport=1026"]
    return tuple(params)
