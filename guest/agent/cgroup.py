"""A container's cgroup (v2): what the kernel counts, kill, freeze. See the kernel's cgroup-v2.rst for the files."""

from __future__ import annotations

import asyncio
import errno
import os

from guest.agent.errors import DeadlineError, FailedPreconditionError, failed

FREEZE_TIMEOUT = 10.0
_POLL_SECONDS = 0.005
_READ_LIMIT = 1 << 18


class Cgroup:
    """One directory of the cgroup file system; it may be gone, which readers see as nothing counted."""

    __slots__ = ("path",)

    def __init__(self, path: str) -> None:
        self.path = path

    def text(self, name: str) -> str:
        """The content of an interface file; empty if there is none."""
        try:
            with open(f"{self.path}/{name}", encoding="ascii", errors="replace") as file:
                return file.read(_READ_LIMIT)
        except OSError:
            return ""

    def has(self, name: str) -> bool:
        """Whether there is such an interface file."""
        return os.path.exists(f"{self.path}/{name}")

    def known(self, name: str, unlimited: int = 0) -> int | None:
        """A single number; `unlimited` for the word max, None if there is no such file."""
        text = self.text(name).strip()
        return unlimited if text == "max" else int(text) if text.isdigit() else None

    def number(self, name: str, unlimited: int = 0) -> int:
        """As `known`, with 0 if there is no such file."""
        return self.known(name, unlimited) or 0

    def pairs(self, name: str) -> dict[str, int]:
        """A file of `key number` lines."""
        return flat_keyed(self.text(name))

    def pids(self) -> list[int]:
        """The processes in this cgroup itself."""
        return [int(word) for word in self.text("cgroup.procs").split()]

    def kill(self) -> None:
        """SIGKILL to every process in the cgroup and below, frozen or not; nothing if it is gone."""
        try:
            self._write("cgroup.kill", "1")
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENODEV):
                raise failed(f"kill {self.path}", error) from error

    async def freeze(self, frozen: bool) -> None:
        """Stop or thaw all processes, and wait until they are; `DeadlineError` if that takes too long."""
        try:
            self._write("cgroup.freeze", "1" if frozen else "0")
        except OSError as error:
            raise FailedPreconditionError(f"freeze {self.path}: {error.strerror}") from error
        try:
            async with asyncio.timeout(FREEZE_TIMEOUT):
                while self.pairs("cgroup.events").get("frozen") != int(frozen):
                    await asyncio.sleep(_POLL_SECONDS)
        except TimeoutError as error:
            if frozen:
                self._write("cgroup.freeze", "0")
            raise DeadlineError(f"the processes did not freeze within {FREEZE_TIMEOUT:g} s") from error

    def _write(self, name: str, value: str) -> None:
        fd = os.open(f"{self.path}/{name}", os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, value.encode())
        finally:
            os.close(fd)


def flat_keyed(text: str) -> dict[str, int]:
    """Lines of `key number`; a line of another shape is left out."""
    result: dict[str, int] = {}
    for line in text.splitlines():
        key, _, value = line.partition(" ")
        if value.isdigit():
            result[key] = int(value)
    return result


def nested_keyed(text: str) -> dict[str, dict[str, int]]:
    """Lines of `name key=number key=number`, as in io.stat."""
    result: dict[str, dict[str, int]] = {}
    for line in text.splitlines():
        name, *words = line.split(" ")
        pairs = (word.partition("=") for word in words)
        result[name] = {key: int(value) for key, _, value in pairs if value.isdigit()}
    return result
