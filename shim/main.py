"""The executable `containerd-shim-kata-v2`: one action for containerd, then the end.

containerd reads standard output and standard error as one: after success there is nothing but the answer, after
failure one line that says why, and status 1. Everything here is on the way of each container's start: an import costs
its time twice.
"""

from __future__ import annotations

import os

from shim import cli
from shim.errors import ShimError
from shim.version import PROGRAM, VERSION

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn


def main(arguments: Sequence[str], entry: str | None = None) -> NoReturn:
    """Run the action and end the process; `entry` is the program that `start` leaves behind, the daemon by default."""
    try:
        output = _dispatch(cli.parse(arguments), entry)
    except ShimError as error:
        _finish(2, f"{PROGRAM}: {error}\n".encode(), 1)
    except Exception as error:  # noqa: BLE001
        _finish(2, f"{PROGRAM}: {type(error).__name__}: {' '.join(str(error).split())}\n".encode(), 1)
    _finish(1, output, 0)


def _dispatch(invocation: cli.Invocation, entry: str | None) -> bytes:
    if invocation.help:
        return cli.USAGE.encode()
    if invocation.version:
        return f"{PROGRAM} {VERSION}\n".encode()
    if invocation.info:
        from shim import info

        return info.run()
    if invocation.action == "start":
        from shim import spawn, start

        return start.run(invocation, 0, entry or spawn.ENTRY)
    if invocation.action == "delete":
        from shim import delete

        return delete.run(invocation)
    raise ShimError(f"unknown action {invocation.action!r} (start or delete)")


def _finish(fd: int, data: bytes, status: int) -> NoReturn:
    """Write all of `data` and end at once: the interpreter's orderly end takes longer than a whole start."""
    try:
        while data:
            data = data[os.write(fd, data) :]
    except OSError:
        status = 1
    os._exit(status)
