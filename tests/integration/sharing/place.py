"""A directory of the host for the probes, and a container's command to run them in it."""

from __future__ import annotations

import json
import os
import socket
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.harness.command import Result
from tests.integration.sharing import probe
from tests.integration.sharing.conftest import mount

#: Runs the probes in the container; the host's Python comes with `MOUNTS`.
COMMAND = ("/usr/bin/python3", "/probe.py", "/place")

#: What a local file system does, by probe.
EXPECTED: dict[str, Any] = {
    "hard_link": ["second", 2, True],
    "rename": ["old", "new", False],
    "rename_directory": "moved",
    "unlink_while_open": ["still here", False, 0],
    "extended_attribute": [["user.colour"], "blue"],
    "fifo": "through the fifo",
    "unix_socket": "through the socket",
    "host_socket": [True, "ConnectionRefusedError"],
    "host_fifo": True,
    "shared_mapping": ".ab.",
    "owners_and_modes": [1234, 4321, "0o4751"],
    "append_and_truncate": ["123", 1 << 30],
}


def mounts(place: Path) -> tuple[str, ...]:
    """Options for `ctr run`: the place, the probes, and the host's Python."""
    python = [word for path in ("/usr", "/lib", "/lib64") for word in mount(Path(path), path, "rbind:ro")]
    return (*mount(place, "/place"), *mount(Path(probe.__file__), "/probe.py", "rbind:ro"), *python)


@contextmanager
def made(parent: Path, files: int) -> Iterator[Path]:
    """A place with `files` files in one directory, a fifo, and a socket that somebody listens on."""
    place = parent / "place"
    (place / "many").mkdir(parents=True)
    for number in range(files):
        (place / "many" / str(number)).touch()
    os.mkfifo(place / "from-host.fifo")
    with socket.socket(socket.AF_UNIX) as server:
        # A relative path, for a socket's has to be short.
        server.bind(os.path.relpath(place / "from-host.sock"))
        server.listen()
        yield place


def outcomes(done: Result) -> dict[str, Any]:
    """What the probes said."""
    print(done.check().error_text, file=sys.stderr)
    seen: dict[str, Any] = json.loads(done.text)
    return seen


def check_host_sees_it(place: Path) -> None:
    """What the container did is done on the host."""
    assert os.stat(place / "one").st_nlink == 2
    assert (place / "c" / "d" / "file").read_text() == "moved"
    assert stat.S_ISFIFO(os.stat(place / "from-host.fifo").st_mode)
    assert os.getxattr(place / "attributes", "user.colour") == b"blue"
    assert not (place / "gone").exists()
    status = os.stat(place / "owned")
    assert (status.st_uid, status.st_gid, status.st_mode & 0o7777) == (1234, 4321, 0o4751)
