"""The action `start`: a daemon that listens, or the address of the one that serves the pod already.

Order of things (containerd runtime v2, "start"): understand the handshake, find the pod, claim its socket, leave the
daemon behind, write the bundle's `address` file, answer. The socket listens before the answer is given, so
containerd's first connection waits for the daemon instead of failing.
"""

from __future__ import annotations

import os

from shim import bootstrap, sockets, spawn
from shim.errors import ShimError
from shim.grouping import Group, group_of, read_annotations
from shim.identifiers import problem_with

TYPE_CHECKING = False
if TYPE_CHECKING:
    from shim.bootstrap import Bootstrap
    from shim.cli import Invocation

#: Seconds for the end of a daemon whose start failed half-way.
ABANDON_TIMEOUT = 5.0


def run(invocation: Invocation, stdin: int, entry: str) -> bytes:
    """Do it in the bundle that is the working directory; return what to print. Raises `ShimError`."""
    _check_ids(invocation)
    told = bootstrap.parse(read_input(stdin), invocation.id, invocation.namespace)
    group = group_of(invocation.id, read_annotations(".") or {})
    directory = sockets.socket_dir(told.socket_dir)
    path = sockets.socket_path(directory, invocation.address, invocation.namespace, group.sandbox_id)
    pid = None
    if group.is_member:
        _require_daemon(path, group)
    else:
        pid = _serve(invocation, told, path, entry)
    try:
        _write_bundle_files(told, directory, sockets.to_address(path))
    except OSError as error:
        if pid is not None:
            _abandon(pid, path)
        raise ShimError(f"bundle of {invocation.id}: {error}") from error
    return bootstrap.answer(told.dialect, sockets.to_address(path))


def read_input(stdin: int) -> bytes:
    """All of standard input; raises `ShimError` beyond `bootstrap.MAX_INPUT`."""
    chunks: list[bytes] = []
    size = 0
    while True:
        try:
            chunk = os.read(stdin, 1 << 16)
        except OSError as error:
            raise ShimError(f"standard input: {error.strerror}") from error
        if not chunk:
            return b"".join(chunks)
        size += len(chunk)
        if size > bootstrap.MAX_INPUT:
            raise ShimError(f"standard input is larger than {bootstrap.MAX_INPUT} bytes")
        chunks.append(chunk)


def _check_ids(invocation: Invocation) -> None:
    for name, value in (("id", invocation.id), ("namespace", invocation.namespace)):
        problem = problem_with(value)
        if problem:
            raise ShimError(f"flag -{name}: {value[:80]!r} {problem}")


def _require_daemon(path: str, group: Group) -> None:
    if not sockets.is_listening(path):
        raise ShimError(f"the shim of sandbox {group.sandbox_id} is not running (nobody listens on {path})")


def _serve(invocation: Invocation, told: Bootstrap, path: str, entry: str) -> int | None:
    """Have a daemon listen at `path`; return its pid if it is a new one."""
    listener = sockets.claim(path)
    if listener is None:
        return None
    arguments = spawn.daemon_arguments(invocation, told, sockets.to_address(path), entry)
    try:
        return spawn.spawn(arguments, spawn.daemon_environment(os.environ, told), listener, told.config_path)
    except ShimError:
        sockets.remove(path, sockets.inode(path))
        raise
    finally:
        os.close(listener)


def _abandon(pid: int, path: str) -> None:
    """Take back a start that failed half-way."""
    import select

    # The daemon is our child or the fork server's; a pidfd tells of its end either way.
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        pass
    else:
        os.kill(pid, 9)
        select.select([pidfd], [], [], ABANDON_TIMEOUT)
        os.close(pidfd)
    sockets.remove_stale(path)


def _write_bundle_files(told: Bootstrap, directory: str, address: str) -> None:
    """`address`, from which containerd up to 1.7 finds the daemon again, and since 2.3 a link to the sockets'
    directory.
    """
    temporary = f".address.{os.getpid()}"
    with open(temporary, "w", encoding="utf-8") as file:
        file.write(address)
    os.rename(temporary, "address")
    if told.dialect == bootstrap.PARAMS:
        try:
            os.symlink(directory, "s")
        except FileExistsError:
            pass
