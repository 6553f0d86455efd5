"""CopyFile: files, directories and links from the host into Kata's shared tree, in chunks, and never outside of it.

A file is written beside its place and moved there when its last byte has come, so nobody sees half of one. What a
component of the path names is never a symbolic link; see `beneath`.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from guest.agent.beneath import open_parent
from guest.agent.errors import InvalidArgumentError, failed
from guest.agent.layout import Layout

if TYPE_CHECKING:
    from protos.lean.gen.grpc import CopyFileRequest

DEFAULT_DIRECTORY_MODE = 0o755
MAX_FILE_SIZE = 1 << 40
_PART_SUFFIX = ".kata-part"


def copy_file(request: CopyFileRequest, layout: Layout) -> None:
    """Do one request: a chunk of a file, a directory, or a link, told apart by the type bits of `file_mode`."""
    mode = request.dir_mode & 0o7777 or DEFAULT_DIRECTORY_MODE
    parent, name = open_parent(layout.shared_containers, request.path, "path of the copy", mode)
    try:
        kind = stat.S_IFMT(request.file_mode)
        if kind == stat.S_IFDIR:
            _make_directory(request, parent, name)
        elif kind == stat.S_IFLNK:
            _make_link(request, parent, name)
        elif kind in (0, stat.S_IFREG):
            _write_chunk(request, parent, name)
        else:
            raise InvalidArgumentError(f"{request.path}: only files, directories and links can be copied")
    except OSError as error:
        raise failed(f"copy {request.path}", error) from error
    finally:
        os.close(parent)


def _make_directory(request: CopyFileRequest, parent: int, name: str) -> None:
    try:
        os.mkdir(name, dir_fd=parent)
    except FileExistsError:
        pass
    fd = os.open(name, os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    try:
        os.fchown(fd, request.uid, request.gid)
        os.fchmod(fd, stat.S_IMODE(request.file_mode))
    finally:
        os.close(fd)


def _make_link(request: CopyFileRequest, parent: int, name: str) -> None:
    """Replace whatever has the name by the link; its target is not followed here, so it may be anything."""
    if not request.data or b"\0" in request.data:
        raise InvalidArgumentError(f"{request.path}: the link has no valid target")
    part = name + _PART_SUFFIX
    _unlink(part, parent)
    os.symlink(os.fsdecode(request.data), part, dir_fd=parent)
    os.chown(part, request.uid, request.gid, dir_fd=parent, follow_symlinks=False)
    os.rename(part, name, src_dir_fd=parent, dst_dir_fd=parent)


def _write_chunk(request: CopyFileRequest, parent: int, name: str) -> None:
    end = request.offset + len(request.data)
    if request.offset < 0 or not end <= request.file_size <= MAX_FILE_SIZE:
        raise InvalidArgumentError(f"{request.path}: the chunk lies outside of the file")
    part = name + _PART_SUFFIX
    if request.offset == 0:
        _unlink(part, parent)
    flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(part, flags, 0o600, dir_fd=parent)
    try:
        _write(fd, request.data, request.offset)
        if end < request.file_size:
            return
        os.ftruncate(fd, request.file_size)
        os.fchown(fd, request.uid, request.gid)
        os.fchmod(fd, stat.S_IMODE(request.file_mode))
    finally:
        os.close(fd)
    os.rename(part, name, src_dir_fd=parent, dst_dir_fd=parent)


def _write(fd: int, data: bytes, offset: int) -> None:
    rest = memoryview(data)
    while rest:
        written = os.pwrite(fd, rest, offset)
        rest, offset = rest[written:], offset + written


def _unlink(name: str, parent: int) -> None:
    try:
        os.unlink(name, dir_fd=parent)
    except FileNotFoundError:
        pass
