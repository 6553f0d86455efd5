"""What the pod adds to the guest's kernel command line (the machine's own part is the hypervisor's): pure.

Three kinds of guest: ours (an initrd that loads modules and mounts the image), and Kata's stock ones (an image with
systemd, or an initrd with the agent as init), which get what Kata's runtime gives them, with these exceptions:

- `console=hvc0 console=hvc1` and `panic=1` are the machine's: its console is the first serial port, and a guest that
  panics ends at once.
- The agent's log stays on the console. `agent.log_vport=1025` would have the agent wait for somebody to read its log
  from there before it goes on.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum


class GuestKind(Enum):
    """Which guest the configuration names."""

    OWN = "own"
    KATA_IMAGE = "kata-image"
    KATA_INITRD = "kata-initrd"

    @property
    def is_stock(self) -> bool:
        """Whether it is one of Kata's."""
        return self is not GuestKind.OWN


_KATA_SYSTEMD = (
    "systemd.unit=kata-containers.target",
    "systemd.mask=systemd-networkd.service",
    "systemd.mask=systemd-networkd.socket",
)
_SYSTEMD_QUIET = ("systemd.show_status=false",)
_SYSTEMD_DEBUG = ("systemd.show_status=true", "systemd.log_level=debug")

#: Kata's tuning for x86, without what the machine sets for every guest.
_KATA_TUNING = (
    # A keyboard controller that is not probed for saves half a second on real clocks.
    *("i8042.direct=1", "i8042.dumbkbd=1", "i8042.nopnp=1", "i8042.noaux=1"),
    "reboot=k",
    "pci=lastbus=0",
    "selinux=0",
)


def guest_kind(*, image: bool, initrd: bool) -> GuestKind:
    """Tell the guest by what the configuration names: both make our guest, either alone is Kata's."""
    if image and initrd:
        return GuestKind.OWN
    return GuestKind.KATA_IMAGE if image else GuestKind.KATA_INITRD


def kernel_params(
    kind: GuestKind, extra: Sequence[str], *, debug: bool, agent_debug: bool, debug_console: bool
) -> tuple[str, ...]:
    """The parameters in order; the configuration's own (`extra`) come after ours, so that they win."""
    params = list(_KATA_TUNING) if kind.is_stock else []
    if kind is GuestKind.KATA_IMAGE:
        params += [*_KATA_SYSTEMD, *(_SYSTEMD_DEBUG if debug else _SYSTEMD_QUIET)]
    params += extra
    if agent_debug:
        params.append("agent.log=debug")
    if debug_console:
        params += ["agent.debug_console", "agent.debug_console_vport=1026"]
    return tuple(params)
