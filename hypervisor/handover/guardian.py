"""A QEMU that outlives the process that starts it, and not its owner.

QEMU is the child of a shell and dies with it, by the kernel's parent-death signal. The shell reads one line from its
owner: where that fails, because no process has the pipe's other end open any more, it ends. The line says that QEMU has
ended: then the shell takes up its exit status, and tells it. Until then nobody does, so the pid stays QEMU's own.

posix_spawn, not `subprocess`: the shell has to close its copies of what QEMU inherits, or QEMU's death would be no end
of file, and a POSIX shell can only name descriptors of one digit.
"""

from __future__ import annotations

import fcntl
import os
import select
import signal
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from hypervisor.errors import HypervisorError
from hypervisor.process import ENVIRONMENT, check_executable, find_program

#: The descriptors of the guardian: its owner's pipe, and where it answers. QEMU has neither.
LIFELINE, ANSWER = 3, 4
#: The first and the last descriptor that QEMU may inherit through it.
FIRST, LAST = 5, 9
#: Seconds for the shell to say QEMU's pid.
BIRTH_TIMEOUT = 5.0
#: Descriptors at or above this number are in nobody's way while they are moved.
_SAFE = 64
#: Its arguments: QEMU's working directory and niceness, and the command. What is to be QEMU looks for its parent once
#: it has asked to die with it: the guardian may be gone already, and then the kernel would never tell.
_SCRIPT = """\
cd "$1" || exit 126
niceness=$2
shift 2
nice -n "$niceness" setpriv --pdeathsig KILL -- sh -c '[ "$PPID" = "$0" ] && exec "$@"' $$ "$@" 3<&- 4>&- &
echo $! >&4
exec </dev/null >/dev/null 2>&1 5>&- 6>&- 7>&- 8>&- 9>&-
read -r _ <&3 || exit 0
wait $!
echo $? >&4
"""


@dataclass(frozen=True)
class Guarded:
    """A QEMU with its guardian. The descriptors are the caller's; `pidfd` is QEMU's."""

    pid: int
    guardian: int
    pidfd: int
    lifeline: int
    answer: int
    stderr: int


def launch(argv: Sequence[str], fds: Mapping[int, int], cwd: Path, niceness: int = 0) -> Guarded:
    """Start `argv` under a guardian, which the caller has to reap.

    `fds` are the descriptors that it inherits: its number there, from `FIRST` to `LAST`, and ours, which stays open.
    Raises `HypervisorError`, and nothing is left then.
    """
    check_executable(Path(argv[0]))
    find_program("setpriv")
    with ExitStack() as theirs, ExitStack() as ours:
        line_end, lifeline = _pipe(theirs, ours)
        answer_end, answer = _pipe(theirs, ours, is_ours_read=True)
        error_end, stderr = _pipe(theirs, ours, is_ours_read=True)
        places = {0: _null(theirs), 1: error_end, 2: error_end, LIFELINE: line_end, ANSWER: answer_end, **fds}
        command = ["sh", "-c", _SCRIPT, "kata-vm-guardian", str(cwd), str(niceness), *argv]
        guardian = _spawn(command, places)
        theirs.close()
        try:
            pid = _born(answer)
            pidfd = os.pidfd_open(pid)
        except (HypervisorError, OSError) as error:
            os.kill(guardian, signal.SIGKILL)
            os.waitpid(guardian, 0)
            words = _drained(stderr)
            raise HypervisorError(f"can't start {argv[0]}: {error}{words}") from error
        ours.pop_all()
        return Guarded(pid, guardian, pidfd, lifeline, answer, stderr)


def _pipe(theirs: ExitStack, ours: ExitStack, is_ours_read: bool = False) -> tuple[int, int]:
    """A pipe's ends: theirs, and ours."""
    read_end, write_end = os.pipe2(os.O_CLOEXEC)
    their_end, our_end = (write_end, read_end) if is_ours_read else (read_end, write_end)
    theirs.callback(os.close, their_end)
    ours.callback(os.close, our_end)
    return their_end, our_end


def _null(stack: ExitStack) -> int:
    fd = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    stack.callback(os.close, fd)
    return fd


def _spawn(command: list[str], places: Mapping[int, int]) -> int:
    """By way of numbers that are out of the way, for a descriptor may have the number that another is to get."""
    if not all(number <= LAST for number in places):
        raise HypervisorError(f"QEMU can't inherit more than {LAST - FIRST + 1} descriptors from its guardian")
    with ExitStack() as moved:
        actions = []
        for number, fd in places.items():
            high = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, _SAFE)
            moved.callback(os.close, high)
            actions.append((os.POSIX_SPAWN_DUP2, high, number))
        ignored = (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
        try:
            return os.posix_spawn(
                "/bin/sh", command, ENVIRONMENT, file_actions=actions, setsid=True, setsigmask=(), setsigdef=ignored
            )
        except OSError as error:
            raise HypervisorError(f"can't start a guardian: {error.strerror}") from error


def _born(answer: int) -> int:
    text = b""
    while not text.endswith(b"\n"):
        if not select.select([answer], [], [], BIRTH_TIMEOUT)[0]:
            raise HypervisorError(f"its guardian did not start it within {BIRTH_TIMEOUT:g} s")
        data = os.read(answer, 32)
        if not data:
            raise HypervisorError("its guardian has ended")
        text += data
    return int(text)


def _drained(stderr: int) -> str:
    os.set_blocking(stderr, False)
    try:
        words = os.read(stderr, 4096).decode("utf-8", "replace").strip()
    except BlockingIOError:
        words = ""
    return f" ({words.splitlines()[-1]})" if words else ""
