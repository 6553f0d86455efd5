"""The side of `start`: ask the node's server for a daemon, or have a server started for those who come next.

The conversation, on a UNIX stream socket with an abstract name (no file that could stay behind):

1. client: 4 bytes of length, big-endian, then the arguments, an empty one, and `NAME=value` for each variable, each
   followed by a NUL; with the first byte come three descriptors: the listening socket, the log, the bundle;
2. the forked daemon: its pid, 4 bytes, big-endian;
3. client: one byte. A daemon that does not get it ends, so a client that has given up never has a second daemon.

Both ends check that the other one is of the same user.
"""

from __future__ import annotations

import _socket
import os
import sys

from shim.paths import ROOT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

#: Set to `off` where no server is wanted; anything else names one that is apart from the node's (meant for tests).
SWITCH = "KATA_SHIM_FORK_SERVER"
#: The interpreter's options: isolated, no `site`, and without docstrings, which take a megabyte of each daemon.
OPTIONS = ("-I", "-S", "-OO")
#: The server's program.
ENTRY = os.path.join(ROOT, "shim", "forkserver", "entry.py")
#: Bytes that a daemon's own command line may have, which is written over the server's (`inheritance.rename`).
NAME_ROOM = 2048
#: signal(7), on all of Linux; the module `signal` makes enumerations of its names, which takes two milliseconds.
SIGPIPE = 13
#: Seconds for the whole conversation; a fork takes some milliseconds.
TIMEOUT = 2.0

#: The kernel's limit for a socket's name.
_MAX_NAME = 108
_PEERCRED_SIZE = 12


def address() -> bytes:
    """The abstract name of the server for this user, interpreter and directory of the project."""
    name = os.environ.get(SWITCH, "")
    return f"\0kata-fork-server/{os.getuid()}/{name}{sys.executable}:{ROOT}".encode()[:_MAX_NAME]


def ask(arguments: Sequence[str], environment: Mapping[str, str], fds: tuple[int, int, int]) -> int | None:
    """The pid of a daemon forked by the server; None if there is no server, or it can't.

    `fds` are the listening socket, the log and the bundle's directory; the caller keeps its own.
    """
    connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
    try:
        connection.settimeout(TIMEOUT)
        connection.connect(address())
        if peer(connection)[1] != os.getuid():
            return None
        _send(connection, message(arguments, environment), fds)
        pid = int.from_bytes(_receive(connection, 4), "big")
        connection.send(b"\1")
    except OSError:
        return None
    finally:
        connection.close()
    return pid or None


def start_server(environment: Mapping[str, str], daemon: int, config_path: str) -> None:
    """Have a server for the next `start`; it leaves at once if there is one. Best effort.

    It stays for as long as process `daemon` lives, which had to do without, as for those that it forks; it reads the
    configuration at `config_path` for all, or the host's if that is empty.
    """
    kept = {name: environment[name] for name in ("PATH", "LANG", "HOME", SWITCH) if name in environment}
    try:
        os.posix_spawn(
            sys.executable,
            [sys.executable, *OPTIONS, ENTRY, str(daemon), config_path, " " * NAME_ROOM],
            kept,
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
                (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0),
            ],
            setsid=True,
            setsigmask=(),
            setsigdef=(SIGPIPE,),
        )
    except OSError:
        return


def message(arguments: Sequence[str], environment: Mapping[str, str]) -> bytes:
    """The request, with its length before it."""
    words = [*arguments, "", *(f"{name}={value}" for name, value in environment.items())]
    body = b"".join(os.fsencode(word) + b"\0" for word in words)
    return len(body).to_bytes(4, "big") + body


def peer(connection: _socket.socket) -> tuple[int, int]:
    """Pid and user of the other end (SO_PEERCRED)."""
    credentials = connection.getsockopt(_socket.SOL_SOCKET, _socket.SO_PEERCRED, _PEERCRED_SIZE)
    return int.from_bytes(credentials[:4], sys.byteorder), int.from_bytes(credentials[4:8], sys.byteorder)


def _send(connection: _socket.socket, data: bytes, fds: tuple[int, int, int]) -> None:
    rights = b"".join(fd.to_bytes(4, sys.byteorder) for fd in fds)
    sent = connection.sendmsg([data], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, rights)])
    connection.sendall(data[sent:])


def _receive(connection: _socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = connection.recv(size - len(data))
        if not more:
            raise ConnectionError("the fork server has hung up")
        data += more
    return data
