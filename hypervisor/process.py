"""Child processes of the daemon: QEMU, virtiofsd and the hooks of containers.

A child is started under `setpriv --pdeathsig KILL`, so the kernel ends it with the daemon, whatever kills the daemon.
(The kernel sends that signal when the *thread* that forked ends: spawn from the main thread.) It is watched by a pidfd
on the event loop: no thread per child, no SIGCHLD handler (uvloop reserves that signal), no pid that could be reused.
Its standard output and error go to one bounded tail. Nothing ever passes through a shell.
"""

from __future__ import annotations

import os
import resource
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from hypervisor.errors import HypervisorError
from hypervisor.tail import TailReader
from hypervisor.watched import WatchedProcess

#: The environment of a helper: theirs is not the daemon's business to leak into.
ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"}

#: Return code of a child whose exit status somebody else took.
UNKNOWN_STATUS = 255


class ChildProcess(WatchedProcess):
    """A running or ended child. Made by `spawn` and `fork`; reaped by itself, at once, when it ends."""

    def __init__(self, pid: int, pidfd: int, stderr: TailReader, popen: subprocess.Popen[bytes] | None = None) -> None:
        super().__init__(pid, pidfd, stderr)
        self._popen = popen
        self._loop.add_reader(pidfd, self._reap)

    def abandon(self) -> None:
        """SIGKILL and reap before returning, for a child that nobody will ever know of: some milliseconds."""
        self.kill()
        if self.returncode is None:
            self._reap(0)

    def _reap(self, flags: int = os.WNOHANG) -> None:
        try:
            if os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT | flags) is None:
                return
            self._kill_group()
            result = os.waitid(os.P_PID, self.pid, os.WEXITED)
        except ChildProcessError:
            result = None
        if result is None:
            # Somebody else reaped it: that it ended is certain, how is not.
            self._ended(UNKNOWN_STATUS)
        else:
            exited = result.si_code == os.CLD_EXITED
            self._ended(result.si_status if exited else -result.si_status)

    def _kill_group(self) -> None:
        """Its own children go with it, stopped ones too: as long as it is not reaped, its group's number is its own."""
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            pass

    def _ended(self, returncode: int) -> None:
        if self._popen:
            self._popen.returncode = returncode
        self._loop.remove_reader(self._pidfd)
        os.close(self._pidfd)
        self._pidfd = -1
        self._finish(returncode)


def spawn(
    argv: Sequence[str],
    *,
    fds: Sequence[int] = (),
    cwd: Path | None = None,
    raise_nofile: bool = False,
    stdin: int = subprocess.DEVNULL,
    environment: Mapping[str, str] | None = None,
    on_spawn: Callable[[int], None] | None = None,
    on_line: Callable[[str], None] | None = None,
) -> ChildProcess:
    """Start `argv` (an absolute path and its arguments) on the running event loop.

    `fds` are inherited under their own numbers. `stdin` is an open file, `environment` one other than `ENVIRONMENT`.
    `raise_nofile` lifts the soft limit of open files to the hard one.
    `on_spawn` gets the pid before anything else happens: for the journal that `delete` reads. If it raises, the child
    is gone before its error is. Raises HypervisorError when the program is missing or can't be run.
    """
    check_executable(Path(argv[0]))
    read_end, write_end = os.pipe2(os.O_CLOEXEC)
    stderr = TailReader(read_end, on_line=on_line)
    try:
        command = [find_program("setpriv"), "--pdeathsig", "KILL", "--", *argv]
        popen = _popen(
            command,
            stdin=stdin,
            stdout=write_end,
            stderr=write_end,
            pass_fds=tuple(fds),
            cwd=cwd or Path("/"),
            env=ENVIRONMENT if environment is None else environment,
        )
        child = _adopt(popen, stderr)
    except BaseException:
        stderr.finish()
        raise
    finally:
        os.close(write_end)
    try:
        if on_spawn:
            on_spawn(child.pid)
        if raise_nofile:
            _raise_nofile(child.pid)
    except BaseException:
        child.abandon()
        raise
    return child


def _popen(command: Sequence[str], **settings: Any) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(command, start_new_session=True, **settings)
    except (OSError, ValueError) as error:
        raise HypervisorError(f"can't start {command[4]}: {error}") from error


def _adopt(popen: subprocess.Popen[bytes], stderr: TailReader) -> ChildProcess:
    try:
        return ChildProcess(popen.pid, os.pidfd_open(popen.pid), stderr, popen)
    except OSError as error:
        popen.kill()
        popen.wait()
        raise HypervisorError(f"can't watch process {popen.pid}: {error}") from error


def check_executable(program: Path) -> None:
    """Raise HypervisorError unless `program` is an absolute path of a file we may execute.

    A file that is neither ELF nor a script would be handed to a shell by execvp(3).
    """
    if not program.is_absolute():
        raise HypervisorError(f"{program}: the path of a program must be absolute")
    if not program.is_file():
        raise HypervisorError(f"{program}: no such program; install it or correct the configuration")
    if not os.access(program, os.X_OK):
        raise HypervisorError(f"{program}: not executable")
    with program.open("rb", buffering=0) as file:
        if not file.read(4).startswith((b"\x7fELF", b"#!")):
            raise HypervisorError(f"{program}: neither an ELF program nor a script")


def find_program(name: str) -> str:
    """Path of a program of util-linux; HypervisorError if the host lacks it."""
    import shutil

    found = shutil.which(name, path=ENVIRONMENT["PATH"])
    if found is None:
        raise HypervisorError(f"{name} not found: install util-linux")
    return found


def _raise_nofile(pid: int) -> None:
    try:
        _, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (hard, hard))
    except (ProcessLookupError, PermissionError):
        # Gone already (its exit will tell why), or not allowed: the limit it has is the one there is.
        pass
