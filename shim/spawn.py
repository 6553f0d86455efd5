"""Leaves the daemon behind: everything that it inherits is decided here.

It must not hold the standard streams of `start`, which containerd reads until their end; it has the listening socket
as descriptor 3, the bundle's log FIFO as its standard error, the bundle as its working directory, and a session of
its own, so that no signal meant for containerd's process group ends it.
"""

from __future__ import annotations

import os
import sys

from shim.errors import ShimError
from shim.forkserver import client
from shim.paths import ROOT
from shim.sockets import LISTENER_FD

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from shim.bootstrap import Bootstrap
    from shim.cli import Invocation

#: The program of the daemon.
ENTRY = os.path.join(ROOT, "shim", "entry.py")

_MAX_OOM_SCORE = 1000


def daemon_arguments(invocation: Invocation, bootstrap: Bootstrap, address: str, entry: str) -> list[str]:
    """The daemon's command line: isolated, and with flags in the syntax of `start`, so that `ps` explains it."""
    flags = {
        "namespace": invocation.namespace,
        "id": invocation.id,
        "address": invocation.address,
        "publish-binary": invocation.publish_binary,
        "socket": address,
        "config": bootstrap.config_path,
    }
    arguments = [sys.executable, *client.OPTIONS, entry]
    for name, value in flags.items():
        if value:
            arguments += [f"-{name}", value]
    if invocation.debug or bootstrap.debug:
        arguments.append("-debug")
    return arguments


def daemon_environment(environment: Mapping[str, str], bootstrap: Bootstrap) -> dict[str, str]:
    """The daemon's environment: containerd's own, and where to send events if the handshake said so."""
    result = dict(environment)
    if bootstrap.ttrpc_address:
        result["TTRPC_ADDRESS"] = bootstrap.ttrpc_address
    return result


def daemon_oom_score(parents: str) -> int:
    """The daemon's `oom_score_adj`: one more than containerd's, so that the kernel kills it first."""
    return min(_MAX_OOM_SCORE, int(parents) + 1)


def spawn(arguments: list[str], environment: Mapping[str, str], listener: int, config_path: str = "") -> int:
    """Start the daemon and return its pid; raises `ShimError`. `config_path` is its pod's, if told."""
    log = _open_log()
    try:
        wants_server = ENTRY in arguments and environment.get(client.SWITCH) != "off"
        pid = _fork(arguments, environment, listener, log) if wants_server else None
        if pid is None:
            pid = _execute(arguments, environment, listener, log)
            if wants_server:
                client.start_server(environment, pid, config_path)
    finally:
        os.close(log)
    _adjust_oom_score(pid)
    return pid


def _fork(arguments: list[str], environment: Mapping[str, str], listener: int, log: int) -> int | None:
    """Have the node's fork server do it, if there is one."""
    bundle = os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return client.ask(arguments, environment, (listener, log, bundle))
    finally:
        os.close(bundle)


def _execute(arguments: list[str], environment: Mapping[str, str], listener: int, log: int) -> int:
    if environment.get("SCHED_CORE"):
        _enable_core_scheduling()
    actions = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
        (os.POSIX_SPAWN_DUP2, log, 2),
        (os.POSIX_SPAWN_DUP2, listener, LISTENER_FD),
    ]
    try:
        return os.posix_spawn(
            arguments[0],
            arguments,
            environment,
            file_actions=actions,
            setsid=True,
            setsigmask=(),
            setsigdef=(client.SIGPIPE,),
        )
    except OSError as error:
        raise ShimError(f"start of the daemon: {error}") from error


def _open_log() -> int:
    """The bundle's log FIFO, opened so that neither a missing nor a slow reader ever stops the daemon."""
    for path, flags in (("log", os.O_RDWR | os.O_NONBLOCK), (os.devnull, os.O_WRONLY)):
        try:
            return _high(os.open(path, flags | os.O_CLOEXEC))
        except OSError:
            continue
    raise ShimError(f"{os.devnull} can't be opened")


def _high(fd: int) -> int:
    """The same file at a descriptor that no file action of `spawn` overwrites."""
    import fcntl

    duplicate = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 10)
    os.close(fd)
    return duplicate


def _enable_core_scheduling() -> None:
    from shim.kernel import create_sched_core

    try:
        create_sched_core()
    except OSError as error:
        raise ShimError(f"core scheduling (SCHED_CORE): {error.strerror}") from error


def _adjust_oom_score(pid: int) -> None:
    """Best effort: a host may forbid it, and the daemon serves its pod all the same."""
    try:
        # UTF-8, for the codec of ASCII would have to be imported.
        with open(f"/proc/{os.getppid()}/oom_score_adj", encoding="utf-8") as file:
            score = daemon_oom_score(file.read())
        with open(f"/proc/{pid}/oom_score_adj", "w", encoding="utf-8") as file:
            file.write(str(score))
    except (OSError, ValueError):
        return
