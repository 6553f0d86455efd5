"""The file system daemon beside a VM, which serves one shared directory over vhost-user.

It is spawned before QEMU, on a socket that listens already, so nobody waits for it. It ends by itself when QEMU hangs
up; when it ends first, the guest's file system hangs, so its owner must watch `wait` and end the VM.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import mmap
import re
from pathlib import Path

from hypervisor import sockets
from hypervisor.errors import HypervisorError, IllegalStateError
from hypervisor.evidence import describe_exit
from hypervisor.process import ChildProcess, check_executable, spawn
from hypervisor.virtiofsd_flags import Flavour, VirtiofsdSpec, arguments
from hypervisor.vm import OnSpawn

__all__ = ["Virtiofsd", "VirtiofsdSpec"]

_log = logging.getLogger(__name__)
#: In the C flavour's text for `--version`, and so in its binary.
_C_MARK = b"FUSE kernel interface version"
#: In every binary that rustc made: the source paths of its standard library.
_RUST_MARK = b"/rustc/"
_RUST_VERSION = re.compile(r"^virtiofsd (?:backend )?v?\d+\.\d+", re.MULTILINE)


class Virtiofsd:
    """One virtiofsd process. `start` once; `kill` at any time; `wait` for its end."""

    def __init__(self, spec: VirtiofsdSpec, on_spawn: OnSpawn | None = None) -> None:
        self._spec = spec
        self._on_spawn = on_spawn
        self._child: ChildProcess | None = None
        self._killed = False

    @property
    def pid(self) -> int:
        """Process id, 0 before there is one."""
        return self._child.pid if self._child else 0

    @property
    def stderr_tail(self) -> str:
        """The last it said."""
        return self._child.stderr_tail if self._child else ""

    async def start(self, timeout: float) -> None:
        """Listen and launch; a VM may connect as soon as this returns.

        `timeout` (seconds) matters only for a binary that has to be asked for its flavour. Raises HypervisorError if
        it can't be launched; that it dies a moment later (a bad option) is told by `wait`.
        """
        if self._child or self._killed:
            raise IllegalStateError("virtiofsd was started or killed before")
        check_executable(self._spec.binary)
        if not self._spec.shared_dir.is_dir():
            raise HypervisorError(f"shared directory {self._spec.shared_dir} does not exist")
        flavour = await detect_flavour(self._spec.binary, timeout)
        if self._killed:
            raise HypervisorError("virtiofsd was killed while it was being started")
        with sockets.listen(self._spec.socket_path) as listener:
            try:
                self._launch(flavour, listener.fileno())
            except BaseException:
                sockets.remove(self._spec.socket_path)
                raise

    async def wait(self) -> str:
        """Why it ended, in one line, once it has. Any number of callers. Legal after `start`."""
        if self._child is None:
            raise IllegalStateError("virtiofsd was not started")
        return describe_exit("virtiofsd", await self._child.wait(), self._child.stderr_tail)

    @property
    def exit_reason(self) -> str | None:
        """Why it ended by itself, in one line; None while it runs, and when it only followed QEMU (status 0)."""
        if self._child is None or not self._child.returncode:
            return None
        return describe_exit("virtiofsd", self._child.returncode, self._child.stderr_tail)

    def kill(self) -> None:
        """SIGKILL, without waiting; idempotent. It can't be started any more."""
        self._killed = True
        if self._child:
            self._child.kill()

    def _launch(self, flavour: Flavour, listener_fd: int) -> None:
        child = spawn(
            [str(self._spec.binary), *arguments(self._spec, flavour, listener_fd)],
            fds=(listener_fd,),
            raise_nofile=True,
            on_spawn=self._on_spawn,
            on_line=functools.partial(_log.debug, "virtiofsd: %s") if self._spec.debug else None,
        )
        child.on_exit(lambda: sockets.remove(self._spec.socket_path))
        self._child = child


async def detect_flavour(binary: Path, timeout: float) -> Flavour:
    """Which virtiofsd `binary` is: by what is in it, and only if that does not tell (a wrapper) by asking it.

    Looking takes well under a millisecond and asking several, which is why each start can afford the former.
    """
    try:
        status = binary.stat()
        found = _scan(binary, (status.st_mtime_ns, status.st_size))
    except (OSError, ValueError) as error:
        raise HypervisorError(f"can't read {binary}: {error}") from error
    return found or await _ask(binary, timeout)


@functools.lru_cache(maxsize=8)
def _scan(binary: Path, _version: tuple[int, int]) -> Flavour | None:
    with binary.open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as content:
        if content.find(_C_MARK) >= 0:
            return "c"
        return "rust" if content[:4] == b"\x7fELF" and content.find(_RUST_MARK) >= 0 else None


async def _ask(binary: Path, timeout: float) -> Flavour:
    child = spawn([str(binary), "--version"])
    try:
        async with asyncio.timeout(timeout):
            await child.wait()
    except TimeoutError as error:
        raise HypervisorError(f"{binary} --version did not end within {timeout:g} s") from error
    finally:
        child.abandon()
    if _C_MARK.decode() in child.stderr_tail:
        return "c"
    if _RUST_VERSION.search(child.stderr_tail):
        return "rust"
    raise HypervisorError(
        f"{binary} is no virtiofsd: {describe_exit(binary.name, child.returncode or 0, child.stderr_tail)}"
    )
