"""UNIX sockets that are bound before the process that serves them exists.

A client may then connect from the first moment, and waits in the queue; nobody polls for a socket to appear. Once the
server is spawned its maker closes its own copy, so that the server's death resets who waits.
"""

from __future__ import annotations

import os
import socket
from pathlib import Path

from hypervisor.errors import HypervisorError

#: Bytes of `sun_path` in a UNIX socket address, less the terminating NUL.
PATH_LIMIT = 107


def listen(path: Path, backlog: int = 8) -> socket.socket:
    """A listening socket at `path`, accessible to our user only, in place of a stale one.

    Raises HypervisorError when the path is too long for a socket address or can't be bound.
    """
    if len(os.fsencode(path)) > PATH_LIMIT:
        raise HypervisorError(f"socket path {path} is longer than {PATH_LIMIT} bytes: use a shorter run directory")
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        remove(path)
        sock.bind(str(path))
        os.chmod(path, 0o600)
        sock.listen(backlog)
    except OSError as error:
        sock.close()
        raise HypervisorError(f"can't listen on {path}: {error.strerror or error}") from error
    return sock


def remove(path: Path) -> None:
    """Remove the socket file at `path`, if there is one."""
    path.unlink(missing_ok=True)
