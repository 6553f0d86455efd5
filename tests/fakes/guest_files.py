"""Files in a guest, as CopyFile makes them: with the habits of Kata's own agent, which a shim has to know.

It gathers a file's parts under the name with the last suffix replaced by `.tmp`; it replaces a link only if that leads
somewhere; it makes missing parents.
"""

from __future__ import annotations

import stat
from dataclasses import dataclass, replace

import anyio.lowlevel
from grpclib.const import Status

from agent_client.errors import AgentError


@dataclass(frozen=True)
class GuestFile:
    """One entry: for a link `data` is its target."""

    mode: int
    uid: int
    gid: int
    data: bytes = b""


class GuestFiles:
    """What `sandbox.sharing.share.Guest` asks for, in memory; entries by their path in the guest."""

    def __init__(self, root: str = "/run/kata-containers/shared/containers") -> None:
        self.entries: dict[str, GuestFile] = {}
        #: Paths in the order of the calls' ends.
        self.order: list[str] = []
        #: Raised by the call for this path, once.
        self.failures: dict[str, AgentError] = {}
        self._root = root

    async def copy_file(
        self,
        *,
        path: str,
        file_size: int,
        file_mode: int,
        dir_mode: int,
        uid: int,
        gid: int,
        offset: int = 0,
        data: bytes = b"",
    ) -> None:
        """One piece. Other calls run in the middle of it, as in a guest with threads."""
        assert path.startswith(f"{self._root}/")
        assert ".." not in path.split("/")
        assert len(data) <= 1 << 20
        if failure := self.failures.pop(path, None):
            raise failure
        self._make_parents(path, dir_mode)
        if stat.S_ISDIR(file_mode):
            self.entries[path] = GuestFile(file_mode, uid, gid)
        elif stat.S_ISLNK(file_mode):
            self._make_link(path, GuestFile(file_mode, uid, gid, data))
        else:
            await self._write(path, file_size, offset, data)
            if len(self.entries[_temporary(path)].data) == file_size:
                self.entries[path] = replace(self.entries.pop(_temporary(path)), mode=file_mode, uid=uid, gid=gid)
        self.order.append(path)

    def read(self, path: str) -> bytes:
        """A file's content; links to names beside them are followed."""
        return self.entries[self._resolved(path)].data

    def _resolved(self, path: str) -> str:
        while path in self.entries and stat.S_ISLNK(self.entries[path].mode):
            parent = path.rpartition("/")[0]
            first, _, rest = self.entries[path].data.decode().partition("/")
            path = self._resolved(f"{parent}/{first}") + (f"/{rest}" if rest else "")
        return path

    def _make_parents(self, path: str, mode: int) -> None:
        parent = path.rpartition("/")[0]
        if parent != self._root and parent not in self.entries:
            self._make_parents(parent, mode)
            self.entries[parent] = GuestFile(stat.S_IFDIR | mode, 0, 0)

    def _make_link(self, path: str, link: GuestFile) -> None:
        if path in self.entries and self._resolved(path) not in self.entries:
            raise AgentError("CopyFile", Status.INTERNAL, f"symlink {path}: file exists")
        self.entries[path] = link

    async def _write(self, path: str, size: int, offset: int, data: bytes) -> None:
        name = _temporary(path)
        had = self.entries[name].data if name in self.entries else b""
        assert len(had) == offset, f"{path}: a piece at {offset} after {len(had)} bytes of {name}"
        assert len(had) + len(data) <= size
        self.entries[name] = GuestFile(stat.S_IFREG, 0, 0, had + data)
        await anyio.lowlevel.checkpoint()


def _temporary(path: str) -> str:
    parent, _, base = path.rpartition("/")
    return f"{parent}/{base.rpartition('.')[0] or base}.tmp"
