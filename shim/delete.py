"""The action `delete`: undo what is left of a container when its daemon can't, or may not be, asked any more.

containerd runs it after every container, also after an orderly end, once per container of a dead pod and at the same
time (runtime v2, "delete"). So it is quick, silent, idempotent, and works from disk alone:

- a sandbox, or a container that stands alone, takes its whole pod with it, daemon included;
- a container of a pod whose daemon lives leaves everything alone: the daemon has undone it, or will;
- a container of a pod whose daemon is dead takes the pod with it: nobody serves it any more;
- where another bundle has taken the place of the one that it was run in, its container is long gone, and what lives
  under its id is somebody else's (containerd does not wait for `delete` after an orderly end; docker's restart takes
  the same id again).
"""

from __future__ import annotations

import os
import time
from pathlib import Path

from sandbox.cleanup import clean, daemon_alive
from sandbox.rundir import run_dir_for
from shim import sockets
from shim.errors import ShimError
from shim.grouping import Group, group_of, read_annotations
from shim.identifiers import problem_with

TYPE_CHECKING = False
if TYPE_CHECKING:
    from shim.cli import Invocation

#: What `delete` reports for a process that it, or a fault, ended: 128 + SIGKILL.
EXIT_STATUS = 137

#: Seconds that a daemon which is about to exit gets to finish, before it is killed.
GRACE = 0.4


def run(invocation: Invocation) -> bytes:
    """Clean up, and return the serialized `DeleteResponse` to print. Raises `ShimError`."""
    problem = problem_with(invocation.id)
    if problem:
        raise ShimError(f"flag -id: {invocation.id[:80]!r} {problem}")
    bundle = invocation.bundle or "."
    if _is_replaced(bundle):
        return _response(0)
    group = _group(invocation.id, bundle)
    run_dir = run_dir_for(invocation.address, invocation.namespace, group.sandbox_id)
    pid = None
    if not group.is_member or not daemon_alive(run_dir):
        _wait_for_daemon(run_dir)
        pid = _clean(run_dir)
        _remove_socket(_socket_path(invocation, bundle, group.sandbox_id))
    return _response(pid or 0)


def _is_replaced(bundle: str) -> bool:
    """Whether the working directory was removed, and `bundle` is another one by now."""
    try:
        own, there = os.stat("."), os.stat(bundle)
    except OSError:
        return False
    return own.st_nlink == 0 and (own.st_dev, own.st_ino) != (there.st_dev, there.st_ino)


def _group(container_id: str, bundle: str) -> Group:
    """The container's pod; without a readable bundle the id can only be that of a pod, or of something unknown."""
    try:
        return group_of(container_id, read_annotations(bundle) or {})
    except ShimError:
        return Group(container_id, is_member=False)


def _wait_for_daemon(run_dir: Path) -> None:
    """Let a daemon that has answered `Shutdown` send its last events: it is gone within milliseconds."""
    deadline = time.monotonic() + GRACE
    while daemon_alive(run_dir) and time.monotonic() < deadline:
        time.sleep(0.01)


def _remove_socket(path: str) -> None:
    """Also that of a daemon that is dying: its connections may be closed, and containerd be told, before its socket."""
    deadline = time.monotonic() + GRACE
    while sockets.is_listening(path) and time.monotonic() < deadline:
        time.sleep(0.01)
    sockets.remove_stale(path)


def _clean(run_dir: Path) -> int | None:
    try:
        return clean(run_dir)
    except OSError as error:
        raise ShimError(f"cleanup of {run_dir}: {error}") from error


def _socket_path(invocation: Invocation, bundle: str, sandbox_id: str) -> str:
    """The pod's socket; where `start` was told another directory than the default, it left a link in the bundle."""
    try:
        told = os.readlink(os.path.join(bundle, "s"))
    except OSError:
        told = None
    return sockets.socket_path(sockets.socket_dir(told), invocation.address, invocation.namespace, sandbox_id)


def _response(pid: int) -> bytes:
    from protos.lean.gen.containerd_task_v2 import DeleteResponse
    from protos.lean.gen.wellknown import Timestamp

    seconds, nanos = divmod(time.time_ns(), 1_000_000_000)
    exited_at = Timestamp(seconds=seconds, nanos=nanos)
    return DeleteResponse(pid=pid, exit_status=EXIT_STATUS, exited_at=exited_at).SerializeToString()
