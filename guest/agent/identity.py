"""What makes this machine itself and not a copy of its template: random numbers and the clock."""

from __future__ import annotations

import os
import struct
import time

from guest.agent.errors import InvalidArgumentError, failed

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
