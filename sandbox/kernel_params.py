"""What the pod adds to the guest's kernel command line (the machine's own part is the hypervisor's): pure.

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


_KATA_SYSTEMD = (
    "systemd.unit=kata-containers.target",
    "systemd.mask=systemd-networkd.service",
    "systemd.mask=systemd-networkd.socket",
    "systemd.show_status=false",
)


def guest_kind(*, image: bool, initrd: bool) -> GuestKind:
    """Tell the guest by what the configuration names: both make our guest, either alone is Kata's."""
    if image and initrd:
        return GuestKind.OWN
    return GuestKind.KATA_IMAGE if image else GuestKind.KATA_INITRD


def kernel_params(kind: GuestKind, extra: Sequence[str], *, agent_debug: bool, debug_console: bool) -> tuple[str, ...]:
    """The parameters in order; the configuration's own (`extra`) come after ours, so that they win."""
    params = list(_KATA_SYSTEMD) if kind is GuestKind.KATA_IMAGE else []
    params += extra
    if agent_debug:
        params.append("agent.log=debug")
    if debug_console:
        params += ["agent.debug_console", "agent.debug_console_vport=1026"]
    return tuple(params)
