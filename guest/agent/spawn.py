"""Children of the agent: started with clean signals and just the descriptors they are given, waited for by the reaper.

Python ignores SIGPIPE, and an ignored signal is inherited through crun into the container; so children get every
default handler back. posix_spawn(3) does that without copying the agent's memory.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Sequence

from guest.agent.errors import DeadlineError, InternalError
from guest.agent.reaper import Reaper

ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}
#: Signals that Python or a parent may have set to be ignored.
_IGNORABLE = (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGTERM)

#: Standard input, output and error of a child; None is /dev/null.
Stdio = tuple[int | None, int | None, int | None]
NO_STDIO: Stdio = (None, None, None)


def start(arguments: Sequence[str], stdio: Stdio = NO_STDIO) -> int:
    """Start a program in a session of its own and return its pid; raises `InternalError` if it can't be run."""
    actions = [_action(fd, number) for number, fd in enumerate(stdio)]
    try:
        return os.posix_spawn(
            arguments[0],
            list(arguments),
            ENVIRONMENT,
            file_actions=actions,
            setsid=True,
            setsigmask=(),
            setsigdef=_IGNORABLE,
        )
    except OSError as error:
        raise InternalError(f"cannot run {arguments[0]}: {error.strerror}") from error


def _action(fd: int | None, number: int) -> tuple[int, ...] | tuple[int, int, str, int, int]:
    """What makes `fd` the child's descriptor `number`."""
    if fd is None:
        mode = os.O_RDONLY if number == 0 else os.O_WRONLY
        return (os.POSIX_SPAWN_OPEN, number, "/dev/null", mode, 0)
    return (os.POSIX_SPAWN_DUP2, fd, number)


async def finished(pid: int, name: str, reaper: Reaper, timeout: float) -> int:
    """The exit status of the child `pid`; past `timeout` seconds, or if the caller gives up, it is killed.

    Raises `DeadlineError`, naming the program by `name`.
    """
    ended = reaper.watch(pid)
    try:
        return await asyncio.wait_for(asyncio.shield(ended), timeout)
    except TimeoutError as error:
        raise DeadlineError(f"{name} did not finish within {timeout:g} s") from error
    finally:
        if not ended.done():
            os.kill(pid, signal.SIGKILL)


async def run(arguments: Sequence[str], reaper: Reaper, timeout: float, stdio: Stdio = NO_STDIO) -> int:
    """Run a program to its end and return its exit status; errors as of `start` and `finished`."""
    return await finished(start(arguments, stdio), os.path.basename(arguments[0]), reaper, timeout)
