"""The guest's root file system as a value: paths and what is there, before anything is written.

Paths are relative, without a leading slash, and as in Debian's merged layout: what a package ships below /bin, /sbin,
/lib or /lib64 is below /usr. Owners and times are not kept: the image has root and one time for all.
"""

from __future__ import annotations

import io
import posixpath
import stat
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from guest.image import tools
from guest.image.errors import BuildError

MERGED = ("bin", "lib", "lib64", "sbin")
_UNPACK_SECONDS = 120
_LINKS_MAX = 20


@dataclass(frozen=True)
class Node:
    """A directory, a regular file with `data`, or a symbolic link to `target`; `mode` includes the file type."""

    mode: int
    data: bytes = b""
    target: str = ""


Tree = dict[str, Node]


def directory(mode: int = 0o755) -> Node:
    """Return a directory."""
    return Node(stat.S_IFDIR | mode)


def file(data: bytes, mode: int = 0o644) -> Node:
    """Return a regular file."""
    return Node(stat.S_IFREG | mode, data)


def symlink(target: str) -> Node:
    """Return a symbolic link."""
    return Node(stat.S_IFLNK | 0o777, target=target)


def merged(path: str) -> str:
    """Return where a packaged path lives in the merged layout: ./bin/ip is usr/bin/ip.

    Raises ValueError for a path that leaves the tree.
    """
    plain = posixpath.normpath("/" + path).lstrip("/")
    if ".." in path.split("/"):
        raise ValueError(f"path leaves the tree: {path!r}")
    first = plain.split("/", 1)[0]
    return f"usr/{plain}" if first in MERGED else plain


def resolve(tree: Tree, path: str) -> str:
    """Return the path of the file that `path` means, following symbolic links. Raises KeyError if there is none."""
    for _ in range(_LINKS_MAX):
        node = tree[path]
        if not stat.S_ISLNK(node.mode):
            return path
        path = merged(posixpath.normpath(posixpath.join("/", posixpath.dirname(path), node.target)))
    raise KeyError(f"too many symbolic links at {path}")


def unpack(package: Path, wanted: Callable[[str], bool]) -> Tree:
    """Return the files and links of a .deb whose merged path is `wanted`. Raises BuildError."""
    contents = tools.run(["dpkg-deb", "--fsys-tarfile", str(package)], timeout=_UNPACK_SECONDS)
    try:
        with tarfile.open(fileobj=io.BytesIO(contents), mode="r:") as archive:
            return dict(_members(archive, wanted))
    except (tarfile.TarError, ValueError, KeyError) as error:
        raise BuildError(f"{package.name} cannot be unpacked: {error}") from error


def _members(archive: tarfile.TarFile, wanted: Callable[[str], bool]) -> Iterator[tuple[str, Node]]:
    for member in archive:
        path = merged(member.name)
        if not wanted(path):
            continue
        if member.issym():
            yield path, symlink(member.linkname)
        elif member.isfile() or member.islnk():
            reader = archive.extractfile(member)
            if reader is not None:
                yield path, file(reader.read(), member.mode & 0o777)


def with_parents(tree: Tree) -> Tree:
    """Return `tree` with every missing parent directory, in an order in which it can be written."""
    full = dict(tree)
    for path in tree:
        parent = posixpath.dirname(path)
        while parent:
            full.setdefault(parent, directory())
            parent = posixpath.dirname(parent)
    return dict(sorted(full.items()))


def write(tree: Tree, root: Path) -> None:
    """Write `tree` below `root`, which exists and is empty. The umask has no influence."""
    for path, node in with_parents(tree).items():
        where = root / path
        if stat.S_ISDIR(node.mode):
            where.mkdir()
        elif stat.S_ISLNK(node.mode):
            where.symlink_to(node.target)
            continue
        else:
            where.write_bytes(node.data)
        where.chmod(stat.S_IMODE(node.mode))
