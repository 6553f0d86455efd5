"""A file or directory of the host as pieces, each one CopyFile call.

What is read may change meanwhile and is not to be trusted: no link is followed, a directory is entered only through its
own descriptor, and number and depth are bounded. Hard links become files of their own; extended attributes, times, and
files that are neither file, directory nor link have no place in CopyFile.
"""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from sandbox.errors import InvalidArgumentError, SandboxError

#: Bytes of a file in one piece (Kata's); a message may have four times as many.
CHUNK = 1 << 20
#: More than a root file system worth copying has: each entry costs a call to the guest, and up to 2 ms.
MAX_ENTRIES = 20_000
MAX_DEPTH = 100

_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_SPECIAL = {stat.S_IFSOCK: "socket", stat.S_IFIFO: "fifo", stat.S_IFCHR: "device", stat.S_IFBLK: "device"}


@dataclass(frozen=True)
class Piece:
    """One call: a directory, a link (`data` is its target) or `data` at `offset` of a file of `size` bytes.

    `path` is below the root of the tree, empty for the root itself; `mode` has the type bits.
    """

    path: str
    mode: int
    uid: int
    gid: int
    size: int = 0
    offset: int = 0
    data: bytes = b""


class Tree:
    """What is at `source`, which is no link. Submounts are left empty unless it is `recursive`.

    `skip` are names directly below the root; `is_known` says of a file or link, by path and status, that it need not be
    read again.
    """

    def __init__(
        self,
        source: Path,
        *,
        recursive: bool = True,
        skip: frozenset[str] = frozenset(),
        is_known: Callable[[str, os.stat_result], bool] = lambda _path, _status: False,
    ) -> None:
        self.source = source
        #: What was left out, by reason.
        self.left_out: Counter[str] = Counter()
        self.entries = 0
        self._recursive = recursive
        self._skip = skip
        self._is_known = is_known

    def check(self) -> None:
        """Raise as `pieces` would for what is too much, without reading any file."""
        for _ in Tree(self.source, recursive=self._recursive, is_known=lambda _path, _status: True).pieces():
            continue

    def pieces(self) -> Iterator[Piece]:
        """All of it, a directory before what is in it. Raises `SandboxError` for what can't be read or is too much."""
        try:
            status = os.lstat(self.source)
            if stat.S_ISDIR(status.st_mode):
                yield from self._walk(status)
            elif stat.S_ISREG(status.st_mode):
                yield from self._file(os.fspath(self.source), None, "")
            else:
                kind = _SPECIAL.get(stat.S_IFMT(status.st_mode), "link")
                raise InvalidArgumentError(f"{self.source} is a {kind}, which can't be copied into the guest")
        except OSError as error:
            where = error.filename if isinstance(error.filename, str) else self.source
            raise SandboxError(f"copy {self.source}: {where}: {error.strerror}") from error

    def _walk(self, root: os.stat_result) -> Iterator[Piece]:
        yield Piece("", root.st_mode, root.st_uid, root.st_gid)
        with ExitStack() as opened:
            stack = [_Directory(os.fspath(self.source), None, "", opened)]
            while stack:
                here = stack[-1]
                name = here.next_name()
                if name is None:
                    stack.pop().close()
                    continue
                if here.path == "" and name in self._skip:
                    continue
                path = f"{here.path}{name}"
                if not _is_text(name):
                    self.left_out["name that is not UTF-8"] += 1
                    continue
                try:
                    status = os.stat(name, dir_fd=here.fd, follow_symlinks=False)
                    yield from self._entry(here, name, path, status)
                    if stat.S_ISDIR(status.st_mode) and (self._recursive or status.st_dev == root.st_dev):
                        self._check_depth(stack)
                        stack.append(_Directory(name, here.fd, f"{path}/", opened))
                except (FileNotFoundError, NotADirectoryError):
                    # Gone, or something else, since its directory was read.
                    continue

    def _entry(self, here: _Directory, name: str, path: str, status: os.stat_result) -> Iterator[Piece]:
        self._count(path)
        mode, kind = status.st_mode, stat.S_IFMT(status.st_mode)
        if kind == stat.S_IFDIR:
            yield Piece(path, mode, status.st_uid, status.st_gid)
        elif kind in _SPECIAL:
            self.left_out[_SPECIAL[kind]] += 1
        elif self._is_known(path, status):
            return
        elif kind == stat.S_IFLNK:
            target = os.fsencode(os.readlink(name, dir_fd=here.fd))
            yield Piece(path, mode, status.st_uid, status.st_gid, len(target), 0, target)
        else:
            yield from self._file(name, here.fd, path)

    def _file(self, name: str, directory: int | None, path: str) -> Iterator[Piece]:
        """The pieces of a file, all of the size it had when it was opened: one that shrinks is filled up with zeros."""
        fd = os.open(name, _READ, dir_fd=directory)
        try:
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode):
                return
            size, offset = status.st_size, 0
            while True:
                wanted = min(CHUNK, size - offset)
                data = os.pread(fd, wanted, offset).ljust(wanted, b"\0")
                yield Piece(path, status.st_mode, status.st_uid, status.st_gid, size, offset, data)
                offset += wanted
                if offset >= size:
                    return
        finally:
            os.close(fd)

    def _count(self, path: str) -> None:
        self.entries += 1
        if self.entries > MAX_ENTRIES:
            raise InvalidArgumentError(
                f"{self.source} has more than {MAX_ENTRIES} entries, each of which would have to be copied into the "
                'guest: use shared_fs = "virtio-fs"'
            )

    def _check_depth(self, stack: list[_Directory]) -> None:
        if len(stack) >= MAX_DEPTH:
            raise InvalidArgumentError(f"{self.source} is nested deeper than {MAX_DEPTH} directories")


class _Directory:
    """An open directory on the way; `path` ends in a slash, or is empty for the root."""

    def __init__(self, name: str, parent: int | None, path: str, opened: ExitStack) -> None:
        self.path = path
        self.fd = os.open(name, _READ | os.O_DIRECTORY, dir_fd=parent)
        self._names = os.scandir(self.fd)
        opened.callback(self.close)

    def next_name(self) -> str | None:
        """The next name in it; None at the end."""
        entry = next(self._names, None)
        return entry.name if entry else None

    def close(self) -> None:
        """Close it; idempotent."""
        if self.fd >= 0:
            self._names.close()
            os.close(self.fd)
            self.fd = -1


def _is_text(name: str) -> bool:
    """Whether a protocol message can carry the name: bytes that are no UTF-8 are surrogates here."""
    return name.isascii() or not any("\ud800" <= char <= "\udfff" for char in name)
