"""What makes this machine itself and not a copy of its template: random numbers, the clock and the machine id."""

from __future__ import annotations

import os
import struct
import sys
import time
from collections.abc import Mapping
from typing import Any

from guest.agent import kernel
from guest.agent.errors import InvalidArgumentError, failed
from guest.agent.log import log

#: random(4): add entropy with credit, and reseed the generator from the pool at once.
_RNDADDENTROPY = 0x40085203
_RNDRESEEDCRNG = 0x5207
MAX_SEED = 4096
_NANOSECONDS = 1_000_000_000


def reseed(data: bytes, device: str = "/dev/random") -> None:
    """Mix the host's random bytes into the kernel's generator and make it start anew from them."""
    import fcntl

    if not data or len(data) > MAX_SEED:
        raise InvalidArgumentError(f"a seed has 1 to {MAX_SEED} bytes, not {len(data)}")
    try:
        fd = os.open(device, os.O_RDWR | os.O_CLOEXEC)
        try:
            fcntl.ioctl(fd, _RNDADDENTROPY, struct.pack("=ii", 8 * len(data), len(data)) + data)
            fcntl.ioctl(fd, _RNDRESEEDCRNG)
        finally:
            os.close(fd)
    except OSError as error:
        raise failed("reseed the random device", error) from error


def forget_drawn(modules: Mapping[str, Any] = sys.modules) -> None:
    """Have this process draw anew what it has drawn before its machine was cloned.

    The agent takes what must be unique from the kernel (`os.urandom`); what a library has loaded besides keeps a state
    of its own. The seed of `hash()` can't be changed any more: clones of one template share it.
    """
    if (generator := modules.get("random")) is not None:
        generator.seed()
    if (uuids := modules.get("uuid")) is not None:
        uuids._node = uuids._last_timestamp = None


def name_machine(directory: str, shown_at: str = "/etc/machine-id") -> None:
    """Give the machine an id of its own (machine-id(5)), if the image has a place for one."""
    path = f"{directory}/machine-id"
    try:
        os.makedirs(directory, exist_ok=True)
        with open(path, "w", encoding="ascii") as file:
            file.write(os.urandom(16).hex() + "\n")
        if os.path.isfile(shown_at) and not os.path.samefile(path, shown_at):
            kernel.mount(path, shown_at, "", kernel.MS_BIND)
    except OSError as error:
        log.warning("machine-id: %s", error)


def set_clock(seconds: int, microseconds: int) -> None:
    """Set the wall clock."""
    if seconds < 0 or not 0 <= microseconds < 1_000_000:
        raise InvalidArgumentError(f"{seconds} s {microseconds} us is no time")
    try:
        time.clock_settime_ns(time.CLOCK_REALTIME, seconds * _NANOSECONDS + microseconds * 1000)
    except OverflowError as error:
        raise InvalidArgumentError(f"{seconds} s is out of range") from error
    except OSError as error:
        raise failed("set the clock", error) from error
