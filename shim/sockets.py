"""The sockets of the daemons: their names, and who listens on them.

The name is the one that Go's shims use (`shim.SocketAddress`), so containerd's tools and tests find it; the limits
are the kernel's. Whoever binds or removes a socket holds a lock on the directory: of two concurrent starts of a pod
one binds and the other finds it listening.
"""

from __future__ import annotations

import _socket
import errno
import fcntl
import os
import time

from sandbox.digest import sha256_hex
from shim.errors import ShimError

#: Where the sockets live when containerd does not say.
DEFAULT_DIR = "/run/containerd/s"

#: The file descriptor that the daemon finds its listening socket at.
LISTENER_FD = 3

#: Connections that may wait while the daemon's interpreter starts.
BACKLOG = 512

#: Seconds to wait for the directory's lock, which is held for microseconds.
LOCK_TIMEOUT = 5.0

_MAX_PATH = 106
_SCHEME = "unix://"


def socket_dir(told: str | None = None) -> str:
    """The sockets' directory: `told` by containerd, or `KATA_SHIM_SOCKET_DIR` (meant for tests), or the default."""
    return told or os.environ.get("KATA_SHIM_SOCKET_DIR") or DEFAULT_DIR


def socket_path(directory: str, address: str, namespace: str, group: str) -> str:
    """Path of the socket of the pod `group`; raises `ShimError` if the kernel can't take one so long."""
    digest = sha256_hex(_join(address, namespace, group).encode())
    path = f"{directory}/{digest}"
    if len(path.encode()) > _MAX_PATH:
        raise ShimError(f"socket directory {directory} is too long")
    return path


def to_address(path: str) -> str:
    """The address that containerd dials."""
    return _SCHEME + path


def from_address(address: str) -> str:
    """Path of an address that `to_address` made."""
    return address.removeprefix(_SCHEME)


def is_listening(path: str) -> bool:
    """Whether a process accepts connections at `path`; never waits."""
    probe = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC | _socket.SOCK_NONBLOCK)
    try:
        probe.connect(path)
    except OSError as error:
        # A full backlog says EAGAIN: somebody listens, but is slow.
        return error.errno == errno.EAGAIN
    finally:
        probe.close()
    return True


def claim(path: str) -> int | None:
    """Bind and listen at `path`: the descriptor, or None if a living process has the socket already.

    A stale socket is replaced. Raises `ShimError` when the directory or the socket can't be made.
    """
    directory = os.path.dirname(path)
    try:
        _make_directories(directory)
        with DirectoryLock(directory):
            if is_listening(path):
                return None
            _unlink(path)
            return _listen(path)
    except OSError as error:
        raise ShimError(f"socket {path}: {error.strerror or error}") from error


def inode(path: str) -> tuple[int, int] | None:
    """What tells the socket file at `path` from a later one of the same name; None if there is none."""
    try:
        status = os.lstat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def remove(path: str, identity: tuple[int, int] | None) -> None:
    """Remove the socket file if it is still the one of `identity`; silent when it is gone."""
    if identity is None:
        return
    try:
        with DirectoryLock(os.path.dirname(path)):
            if inode(path) == identity:
                _unlink(path)
    except OSError:
        return


def remove_stale(path: str) -> None:
    """Remove the socket file if nobody listens on it; silent when it is gone."""
    if inode(path) is None:
        return
    try:
        with DirectoryLock(os.path.dirname(path)):
            if not is_listening(path):
                _unlink(path)
    except OSError:
        return


class DirectoryLock:
    """Mutual exclusion of all who change a socket directory; leaves no file behind. Raises `TimeoutError`."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._fd = -1

    def __enter__(self) -> None:
        self._fd = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        deadline = time.monotonic() + LOCK_TIMEOUT
        while True:
            try:
                fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > deadline:
                    os.close(self._fd)
                    raise TimeoutError(errno.ETIMEDOUT, f"{self._directory} stays locked") from None
                time.sleep(0.001)
            else:
                return

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)


def _listen(path: str) -> int:
    listener = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
    try:
        listener.bind(path)
        os.chmod(path, 0o600)
        listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener.detach()


def _make_directories(path: str) -> None:
    """`mkdir -p` where the directories that are made belong to root alone."""
    if os.path.isdir(path):
        return
    _make_directories(os.path.dirname(path))
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        pass


def _unlink(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass


def _join(*elements: str) -> str:
    """Go's `filepath.Join`: empty elements do not count, and the result is cleaned."""
    joined = "/".join(element for element in elements if element)
    cleaned = os.path.normpath(joined) if joined else ""
    return cleaned[1:] if cleaned.startswith("//") else cleaned
