"""Which signal a container's process really gets. Pure but for reading /proc.

The kernel drops a signal to the init of a pid namespace that has no handler for it. As Kata's agent does, SIGTERM to
such an init becomes SIGKILL, so that a container which can't hear it stops at once and not after its grace period.
"""

from __future__ import annotations

import signal

from guest.agent.errors import InvalidArgumentError

_DISPOSITIONS = ("SigBlk:", "SigIgn:", "SigCgt:")


def checked(number: int) -> int:
    """`number`, if there is such a signal."""
    if not 1 <= number <= 64:
        raise InvalidArgumentError(f"there is no signal {number}")
    return number


def effective(number: int, status: str) -> int:
    """The signal to send to an init whose /proc/PID/status is `status`."""
    if number == signal.SIGTERM and is_namespace_init(status) and not is_expected(number, status):
        return signal.SIGKILL
    return number


def is_namespace_init(status: str) -> bool:
    """Whether the process is number 1 of the innermost pid namespace it is in."""
    return _fields(status).get("NSpid:", [])[-1:] == ["1"]


def is_expected(number: int, status: str) -> bool:
    """Whether the process blocks, ignores or catches the signal."""
    bit = 1 << (number - 1)
    fields = _fields(status)
    return any(int(fields[name][0], 16) & bit for name in _DISPOSITIONS if fields.get(name))


def _fields(status: str) -> dict[str, list[str]]:
    return {words[0]: words[1:] for line in status.splitlines() if (words := line.split())}
