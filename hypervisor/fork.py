"""A child that runs no program, but a function of ours: a copy of this process, with all that it has imported.

It costs a few milliseconds where a new interpreter with the same imports costs a hundred. The child shares nothing with
the parent's event loop: it has the descriptors that it is given and no others, no signal handlers, and never returns.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import os
import signal
from collections.abc import Callable, Sequence
from itertools import pairwise

from hypervisor.errors import HypervisorError
from hypervisor.process import ChildProcess
from hypervisor.process_name import rename
from hypervisor.tail import TailReader

_PR_SET_PDEATHSIG = 1


def fork(body: Callable[[], None], *, name: str, fds: Sequence[int] = ()) -> ChildProcess:
    """Run `body` in a child whose name in `ps` is `name`, with the descriptors `fds`; from the main thread.

    As with `spawn`, the child dies with this process, and what it says on standard error is kept: why `body` failed,
    too, in which case it ends with 1. Raises `HypervisorError` if there can be no further process.
    """
    read_end, write_end = os.pipe2(os.O_CLOEXEC)
    stderr = TailReader(read_end)
    parent = os.getpid()
    pid = -1
    try:
        pid = os.fork()
        if pid == 0:
            _be_the_child(body, name, (*fds, write_end), parent)
        return ChildProcess(pid, os.pidfd_open(pid), stderr)
    except OSError as error:
        stderr.finish()
        if pid > 0:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        raise HypervisorError(f"can't fork {name}: {error.strerror}") from error
    finally:
        os.close(write_end)


def _be_the_child(body: Callable[[], None], name: str, fds: Sequence[int], parent: int) -> None:
    """Never returns, and never raises: the frames above are the parent's."""
    status = 1
    try:
        _die_with(parent)
        _forget_the_loop()
        _keep_only(fds)
        os.chdir("/")
        rename([name])
        body()
        status = 0
    except BaseException as error:  # noqa: BLE001 - it is told, and the process ends
        os.write(2, f"{type(error).__name__}: {error}\n".encode(errors="replace"))
    finally:
        os._exit(status)


def _die_with(parent: int) -> None:
    os.setsid()
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def _forget_the_loop() -> None:
    """No signal and no collection reaches the parent's objects; a loop that `body` makes is a plain one."""
    gc.disable()
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_DFL)
    asyncio.set_event_loop_policy(None)


def _keep_only(fds: Sequence[int]) -> None:
    """The last of `fds` becomes standard output and error, the others stay as they are."""
    *kept, output = fds
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    for source, target in ((null, 0), (output, 1), (output, 2)):
        os.dup2(source, target)
    for low, high in pairwise((2, *sorted(kept), os.sysconf("SC_OPEN_MAX"))):
        os.closerange(low + 1, high)
