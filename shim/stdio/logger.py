"""Loggers: programs that get a process' output as pipes (containerd runtime v2, "Logging", the `binary` scheme).

A logger finds standard output at descriptor 3, standard error at 4, and at 5 a pipe on which it says that it is
ready, by closing it or, in version 2 of the scheme, by a byte. Its environment names the container.
"""

from __future__ import annotations

import fcntl
import logging
import os
import signal
from contextlib import ExitStack

import anyio

from sandbox.errors import DeadlineError, FailedPreconditionError, InvalidArgumentError
from shim.stdio.output import PipeSink
from shim.stdio.readiness import Watched
from shim.stdio.target import Scheme, Target

#: Seconds a logger may take to say that it is ready.
READY_TIMEOUT = 10.0

#: Seconds that a logger gets to end by itself after the end of the output, and then after SIGTERM.
END_TIMEOUT = 2.0
TERM_TIMEOUT = 1.0
#: Seconds that the kernel gets to end it.
KILL_TIMEOUT = 1.0

# Above the descriptors that a logger finds its pipes at.
_FIRST_FREE_FD = 10

_log = logging.getLogger(__name__)


class Logger:
    """A running logger, and the sinks that feed it. Owns the process: `aclose` ends it."""

    def __init__(self, path: str, pidfd: int, stdout: PipeSink, stderr: PipeSink) -> None:
        self._path = path
        self._process = Watched(pidfd)
        self.stdout = stdout
        self.stderr = stderr

    @classmethod
    async def start(cls, target: Target, container_id: str, namespace: str) -> Logger:
        """Start the program and wait until it is ready.

        Raises `InvalidArgumentError` if it can't be run, `DeadlineError` or `FailedPreconditionError` if it is never
        ready.
        """
        environment = dict(os.environ, CONTAINER_ID=container_id, CONTAINER_NAMESPACE=namespace)
        with ExitStack() as undo:
            try:
                stdout, stderr, ready = _pipe(undo), _pipe(undo), _pipe(undo)
                pidfd = _spawn(target, environment, (stdout[0], stderr[0], ready[1]))
            except OSError as error:
                raise InvalidArgumentError(f"logger {target.path}: {error.strerror}") from error
            undo.pop_all()
        _close(stdout[0], stderr[0], ready[1])
        logger = cls(target.path, pidfd, PipeSink(stdout[1]), PipeSink(stderr[1]))
        try:
            await logger._wait_ready(ready[0], target.scheme is Scheme.BINARY_V2)
        except BaseException:
            with anyio.CancelScope(shield=True):
                await logger.aclose()
            raise
        return logger

    async def _wait_ready(self, fd: int, needs_byte: bool) -> None:
        os.set_blocking(fd, False)
        ready = Watched(fd)
        try:
            with anyio.fail_after(READY_TIMEOUT):
                await ready.readable()
            if not os.read(fd, 1) and needs_byte:
                raise FailedPreconditionError(f"logger {self._path} ended before it was ready")
        except TimeoutError as error:
            raise DeadlineError(f"logger {self._path} was not ready within {READY_TIMEOUT:g} s") from error
        finally:
            os.close(ready.detach())

    async def aclose(self) -> None:
        """End the output and then the logger: it gets time to write what it has, then SIGTERM, then SIGKILL;
        idempotent. One that the kernel can't end, such as one that waits for a dead disk, is left to the reaper.
        """
        await self.stdout.aclose()
        await self.stderr.aclose()
        for seconds, number in ((END_TIMEOUT, signal.SIGTERM), (TERM_TIMEOUT, signal.SIGKILL)):
            if await self._ended(seconds):
                break
            _log.warning("logger %s does not end: sending %s", self._path, number.name)
            signal.pidfd_send_signal(self._process.fd, number)
        else:
            await self._ended(KILL_TIMEOUT)
        self._reap()

    async def _ended(self, seconds: float) -> bool:
        """Whether it has ended, or does so within that time; or another `aclose` has seen to it."""
        if not self._process.closed:
            with anyio.move_on_after(seconds):
                await self._process.readable()
                return True
        return self._process.closed

    def _reap(self) -> None:
        if self._process.closed:
            return
        try:
            os.waitid(os.P_PIDFD, self._process.fd, os.WEXITED | os.WNOHANG)
        except ChildProcessError:
            # Somebody who reaps orphans was quicker.
            pass
        finally:
            os.close(self._process.detach())


def _spawn(target: Target, environment: dict[str, str], fds: tuple[int, int, int]) -> int:
    """Start the program; its pidfd. Raises `OSError`, and then nothing runs."""
    actions: list[tuple[int, ...] | tuple[int, int, str, int, int]] = [
        (os.POSIX_SPAWN_OPEN, number, os.devnull, os.O_RDWR, 0) for number in range(3)
    ]
    actions += [(os.POSIX_SPAWN_DUP2, fd, number) for number, fd in enumerate(fds, start=3)]
    pid = os.posix_spawn(
        target.path,
        (target.path, *target.arguments),
        environment,
        file_actions=actions,
        setsigmask=(),
        setsigdef=(signal.SIGPIPE,),
    )
    try:
        return os.pidfd_open(pid)
    except OSError:
        os.kill(pid, signal.SIGKILL)
        raise


def _pipe(undo: ExitStack) -> tuple[int, int]:
    """A pipe whose ends, which `undo` closes, are not among the descriptors that a spawn overwrites."""
    ends = os.pipe2(os.O_CLOEXEC)
    try:
        return _high(ends[0], undo), _high(ends[1], undo)
    finally:
        _close(*ends)


def _high(fd: int, undo: ExitStack) -> int:
    duplicate = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, _FIRST_FREE_FD)
    undo.callback(os.close, duplicate)
    return duplicate


def _close(*fds: int) -> None:
    for fd in fds:
        os.close(fd)
