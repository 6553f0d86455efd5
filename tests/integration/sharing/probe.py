"""Runs in a container: what a shared directory can do, as JSON. Argument: the directory. Standard library only."""

from __future__ import annotations

import json
import mmap
import os
import socket
import stat
import sys
import threading
import time
from collections.abc import Callable
from typing import Any


def hard_link(place: str) -> Any:
    """Two names of one file."""
    one, two = f"{place}/one", f"{place}/two"
    write(one, "first")
    os.link(one, two)
    write(two, "second")
    return [read(one), os.stat(one).st_nlink, os.path.samefile(one, two)]


def rename(place: str) -> Any:
    """A file moved over an open one, whose reader keeps what it has."""
    old, new = f"{place}/old", f"{place}/new"
    write(old, "old")
    write(new, "new")
    with open(old, encoding="ascii") as file:
        os.rename(new, old)
        return [file.read(), read(old), os.path.exists(new)]


def rename_directory(place: str) -> Any:
    """A directory with a file, moved into another one."""
    os.makedirs(f"{place}/a/b")
    os.mkdir(f"{place}/c")
    write(f"{place}/a/b/file", "moved")
    os.rename(f"{place}/a/b", f"{place}/c/d")
    return read(f"{place}/c/d/file")


def unlink_while_open(place: str) -> Any:
    """A file that is gone, written and read on."""
    path = f"{place}/gone"
    with open(path, "w+", encoding="ascii") as file:
        os.unlink(path)
        file.write("still here")
        file.flush()
        file.seek(0)
        return [file.read(), os.path.exists(path), os.fstat(file.fileno()).st_nlink]


def extended_attribute(place: str) -> Any:
    """Set, listed, read."""
    path = f"{place}/attributes"
    write(path, "")
    os.setxattr(path, "user.colour", b"blue")
    return [os.listxattr(path), os.getxattr(path, "user.colour").decode()]


def fifo(place: str) -> Any:
    """Both ends in the guest."""
    path = f"{place}/fifo"
    os.mkfifo(path)
    writer = threading.Thread(target=write, args=(path, "through the fifo"))
    writer.start()
    text = read(path)
    writer.join()
    return text


def unix_socket(place: str) -> Any:
    """Both ends in the guest."""
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
        server.bind(f"{place}/socket")
        server.listen()
        client.connect(f"{place}/socket")
        client.sendall(b"through the socket")
        with server.accept()[0] as accepted:
            return accepted.recv(100).decode()


def host_socket(place: str) -> Any:
    """A socket that listens on the host is a socket here, and nobody answers."""
    path = f"{place}/from-host.sock"
    with socket.socket(socket.AF_UNIX) as client:
        try:
            client.connect(path)
        except OSError as error:
            return [stat.S_ISSOCK(os.stat(path).st_mode), type(error).__name__]
    return "connected"


def host_fifo(place: str) -> Any:
    """A fifo of the host is one here."""
    return stat.S_ISFIFO(os.stat(f"{place}/from-host.fifo").st_mode)


def shared_mapping(place: str) -> Any:
    """What is written through a mapping is in the file."""
    path = f"{place}/mapped"
    write(path, "....")
    with open(path, "r+b") as file, mmap.mmap(file.fileno(), 4) as mapping:
        mapping[1:3] = b"ab"
        mapping.flush()
    return read(path)


def owners_and_modes(place: str) -> Any:
    """Changed and kept."""
    path = f"{place}/owned"
    write(path, "")
    os.chown(path, 1234, 4321)
    os.chmod(path, 0o4751)
    status = os.stat(path)
    return [status.st_uid, status.st_gid, oct(status.st_mode & 0o7777)]


def append_and_truncate(place: str) -> Any:
    """Two writers that append; a hole."""
    path = f"{place}/appended"
    with open(path, "a", encoding="ascii") as one, open(path, "a", encoding="ascii") as two:
        for file, text in ((one, "1"), (two, "2"), (one, "3")):
            file.write(text)
            file.flush()
    os.truncate(path, 1 << 30)
    return [read_bytes(path, 3).decode(), os.stat(path).st_size]


def many_files(place: str) -> Any:
    """The names of a large directory, and the status of each."""
    began = time.monotonic()
    names = os.listdir(f"{place}/many")
    sizes = {os.stat(f"{place}/many/{name}").st_size for name in names}
    print(f"{len(names)} files: {time.monotonic() - began:.1f} s", file=sys.stderr)
    return [len(names), sorted(sizes)]


def write(path: str, text: str) -> None:
    """Make a file."""
    with open(path, "w", encoding="ascii") as file:
        file.write(text)


def read(path: str) -> str:
    """All of a file."""
    with open(path, encoding="ascii") as file:
        return file.read()


def read_bytes(path: str, count: int) -> bytes:
    """The start of a file."""
    with open(path, "rb") as file:
        return file.read(count)


PROBES = (
    *(hard_link, rename, rename_directory, unlink_while_open, extended_attribute, fifo, unix_socket),
    *(host_socket, host_fifo, shared_mapping, owners_and_modes, append_and_truncate, many_files),
)


def attempt(probe: Callable[[str], Any], place: str) -> Any:
    """The probe's outcome, or its error as text."""
    try:
        return probe(place)
    except OSError as error:
        return f"{type(error).__name__}: {error}"


if __name__ == "__main__":
    print(json.dumps({probe.__name__: attempt(probe, sys.argv[1]) for probe in PROBES}))
