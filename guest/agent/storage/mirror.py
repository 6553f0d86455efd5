"""A copy of a small tree that follows its source: for ConfigMaps, Secrets and the like. Plain files, no event loop.

A reader of the copy sees each file either old or new, and the files of a Kubernetes volume all old or all new: there
the names are links through `..data` to a directory of one version, so the new version is copied whole beside the old
one, then `..data` is moved over, and only then the old one goes. If the source changes meanwhile nothing is published:
the next update does it.
"""

from __future__ import annotations

import os
import stat
from typing import NamedTuple

from guest.agent.beneath import remove_tree

#: What may be followed; more is no configuration, and would fill the guest's memory.
MAX_ENTRIES = 4096
MAX_BYTES = 64 << 20
MAX_DEPTH = 32
#: The link through which Kubernetes publishes a version (its AtomicWriter).
DATA_LINK = "..data"
_TEMPORARY = "..kata-new"


class TooLargeError(Exception):
    """The source is larger than what may be followed."""


class ChangedError(Exception):
    """The source changed while it was copied; what was published before is still whole."""


class Entry(NamedTuple):
    """What there is to know of a file, directory or link to see whether it has changed."""

    kind: int
    mode: int
    uid: int
    gid: int
    size: int
    mtime_ns: int
    inode: int
    target: str


#: By path relative to the source; the source itself is "".
Snapshot = dict[str, Entry]


def snapshot(source: str) -> Snapshot:
    """The state of a file or tree; follows no link. Raises `TooLargeError`, `OSError`."""
    found: Snapshot = {}
    _scan(source, "", found, 0)
    if sum(entry.size for entry in found.values() if entry.kind == stat.S_IFREG) > MAX_BYTES:
        raise TooLargeError(f"{source} holds more than {MAX_BYTES >> 20} MiB")
    return found


def _scan(path: str, relative: str, found: Snapshot, depth: int) -> None:
    if depth > MAX_DEPTH or len(found) >= MAX_ENTRIES:
        raise TooLargeError(f"{path} is nested too deeply, or one of more than {MAX_ENTRIES} entries")
    status = os.lstat(path)
    kind = stat.S_IFMT(status.st_mode)
    target = os.readlink(path) if kind == stat.S_IFLNK else ""
    size = 0 if kind == stat.S_IFDIR else status.st_size
    mode = stat.S_IMODE(status.st_mode)
    found[relative] = Entry(kind, mode, status.st_uid, status.st_gid, size, status.st_mtime_ns, status.st_ino, target)
    if kind == stat.S_IFDIR:
        for name in os.listdir(path):
            if name != _TEMPORARY:
                _scan(f"{path}/{name}", f"{relative}/{name}" if relative else name, found, depth + 1)


class Mirror:
    """The copy at `target` of what is at `source`: both directories, or both files. `update` keeps them alike."""

    def __init__(self, source: str, target: str) -> None:
        """The directory that holds `target` must be there, `target` itself need not."""
        self._source = source
        self._target = target
        self._known: Snapshot = {}
        #: What the target holds, also of a copy that was broken off.
        self._present: set[str] = set()

    @property
    def directories(self) -> list[str]:
        """The directories of the source (or the file that it is), as of the last update."""
        return [
            f"{self._source}/{path}" if path else self._source
            for path, entry in self._known.items()
            if entry.kind == stat.S_IFDIR or not path
        ]

    def update(self) -> bool:
        """Bring the copy up to date; False if nothing has changed. `OSError`, `TooLargeError`, `ChangedError`."""
        if self._is_same_version():
            return False
        wanted = snapshot(self._source)
        if wanted == self._known:
            return False
        if wanted[""].kind == stat.S_IFDIR:
            self._update_tree(wanted)
        else:
            self._copy_in_place(wanted[""])
        self._known = wanted
        return True

    def _is_same_version(self) -> bool:
        """One look is enough at a volume of Kubernetes: whatever changes, `..data` leads elsewhere then."""
        known = self._known.get(DATA_LINK)
        return known is not None and os.readlink(f"{self._source}/{DATA_LINK}") == known.target

    def _update_tree(self, wanted: Snapshot) -> None:
        links = {path for path, entry in wanted.items() if entry.kind == stat.S_IFLNK}
        for path, entry in wanted.items():
            if path not in links and entry != self._known.get(path):
                self._make(path, entry)
        if snapshot(self._source) != wanted:
            raise ChangedError(f"{self._source} changed while it was copied")
        for path in sorted(links, key=lambda path: path != DATA_LINK):
            if wanted[path] != self._known.get(path):
                self._replace(path, wanted[path])
        self._remove_others(wanted)

    def _make(self, path: str, entry: Entry) -> None:
        if entry.kind == stat.S_IFDIR:
            self._make_directory(path, entry)
        elif entry.kind == stat.S_IFREG:
            self._replace(path, entry)

    def _make_directory(self, path: str, entry: Entry) -> None:
        place = self._place(path)
        if not _is_directory(place):
            _remove(place)
            os.mkdir(place, 0o700)
        self._present.add(path)
        os.chown(place, entry.uid, entry.gid)
        os.chmod(place, entry.mode)

    def _replace(self, path: str, entry: Entry) -> None:
        """Make a file or link beside its place and move it there."""
        place = self._place(path)
        part = os.path.join(os.path.dirname(place), _TEMPORARY)
        _remove(part)
        if entry.kind == stat.S_IFLNK:
            os.symlink(entry.target, part)
            os.lchown(part, entry.uid, entry.gid)
        else:
            self._copy_file(path, part, entry, os.O_CREAT | os.O_EXCL)
        if _is_directory(place):
            remove_tree(place)
        os.rename(part, place)
        self._present.add(path)

    def _copy_in_place(self, entry: Entry) -> None:
        """A single file is bound somewhere by its inode, so that one must stay."""
        if entry.kind != stat.S_IFREG:
            raise OSError(f"{self._source} is neither a directory nor a file")
        self._copy_file("", self._target, entry, os.O_CREAT | os.O_TRUNC)

    def _copy_file(self, path: str, place: str, entry: Entry, flags: int) -> None:
        source = os.path.join(self._source, path) if path else self._source
        with (
            open(os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb") as reader,
            open(os.open(place, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC | flags, 0o600), "wb") as writer,
        ):
            # One byte more than it had shows that it has grown.
            data = reader.read(entry.size + 1)
            if len(data) != entry.size:
                raise ChangedError(f"{source} changed while it was copied")
            writer.write(data)
            os.fchown(writer.fileno(), entry.uid, entry.gid)
            os.fchmod(writer.fileno(), entry.mode)

    def _remove_others(self, wanted: Snapshot) -> None:
        """Remove what the source has no more: links before the directories that they lead through."""
        gone = self._present.difference(wanted)
        for path in sorted(gone, key=lambda path: _is_directory(self._place(path))):
            _remove(self._place(path))
        self._present -= gone

    def _place(self, path: str) -> str:
        return f"{self._target}/{path}" if path else self._target


def _is_directory(path: str) -> bool:
    try:
        return stat.S_ISDIR(os.lstat(path).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False


def _remove(path: str) -> None:
    if _is_directory(path):
        remove_tree(path)
        return
    try:
        os.unlink(path)
    except (FileNotFoundError, NotADirectoryError):
        pass
