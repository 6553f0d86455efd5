"""Between the messages of the Task service and the plain values of the pod. Pure functions.

What comes in is checked here: the pod may rely on ids that are ids and on paths that are absolute.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from protos import anys, timestamps
from protos.gen.containerd.runc.v1 import ProcessDetails
from protos.gen.containerd.task import v2
from protos.gen.containerd.v1 import types
from sandbox.errors import InvalidArgumentError
from sandbox.interface import CreateRequest, ExecRequest, ExitInfo, Mount, ProcessInfo, ProcessState, StdioUris
from shim.errors import ShimError
from shim.identifiers import problem_with
from shim.options import config_body, config_path

#: The largest number of a signal (SIGRTMAX).
_MAX_SIGNAL = 64


def create_request(message: v2.CreateTaskRequest) -> CreateRequest:
    """The request to make a container; raises `InvalidArgumentError`."""
    bundle = Path(message.bundle)
    if not bundle.is_absolute():
        raise InvalidArgumentError(f"bundle {message.bundle!r} is not an absolute path")
    path, body = runtime_options(message.options)
    return CreateRequest(
        container_id=checked_id("container", message.id),
        bundle=bundle,
        rootfs=tuple(Mount(m.type, m.source, m.target, tuple(m.options)) for m in message.rootfs),
        io=_stdio(message),
        checkpoint=message.checkpoint,
        config_path=path,
        config_body=body,
    )


def exec_request(message: v2.ExecProcessRequest) -> ExecRequest:
    """The request to register a process; raises `InvalidArgumentError`."""
    if message.spec is None:
        raise InvalidArgumentError(f"exec {message.exec_id[:80]}: no process")
    return ExecRequest(
        container_id=message.id,
        exec_id=checked_id("exec", message.exec_id),
        process=_json(message.spec, anys.PROCESS_URL, "process"),
        io=_stdio(message),
    )


def resources(message: v2.UpdateTaskRequest) -> bytes:
    """The OCI resources of an update, as JSON; raises `InvalidArgumentError`."""
    if message.resources is None:
        raise InvalidArgumentError("update: no resources")
    return oci_resources(message.resources)


def oci_resources(packed: Any) -> bytes:
    """OCI resources as JSON; raises `InvalidArgumentError` for anything else."""
    return _json(packed, anys.LINUX_RESOURCES_URL, "resources")


def runtime_options(packed: Any) -> tuple[Path | None, str]:
    """The configuration that options name, and the one that they are, in TOML; raises `InvalidArgumentError`."""
    if packed is None:
        return None, ""
    try:
        path, body = (read(packed.type_url, bytes(packed.value)) for read in (config_path, config_body))
    except ShimError as error:
        raise InvalidArgumentError(str(error)) from error
    return Path(path) if path else None, body


def signal_number(message: v2.KillRequest) -> int:
    """The signal to send; raises `InvalidArgumentError`."""
    if not 0 <= message.signal <= _MAX_SIGNAL:
        raise InvalidArgumentError(f"signal {message.signal}: no such signal")
    return message.signal


def checked_id(kind: str, identifier: str) -> str:
    """`identifier`, if containerd allows it; else raises `InvalidArgumentError`."""
    problem = problem_with(identifier)
    if problem:
        raise InvalidArgumentError(f"{kind} id {identifier[:80]!r} {problem}")
    return identifier


def state_response(state: ProcessState) -> v2.StateResponse:
    """The answer to `State`; `exited_at` is absent while the process lives."""
    return v2.StateResponse(
        id=state.exec_id or state.container_id,
        bundle=str(state.bundle),
        pid=state.pid,
        status=types.Status(int(state.status)),
        stdin=state.io.stdin,
        stdout=state.io.stdout,
        stderr=state.io.stderr,
        terminal=state.io.terminal,
        exit_status=state.exit_status,
        exited_at=timestamps.from_ns(state.exited_at_ns) if state.exited_at_ns else None,
        exec_id=state.exec_id,
    )


def wait_response(end: ExitInfo) -> v2.WaitResponse:
    """The answer to `Wait`."""
    return v2.WaitResponse(exit_status=end.exit_status, exited_at=timestamps.from_ns(end.exited_at_ns))


def delete_response(end: ExitInfo) -> v2.DeleteResponse:
    """The answer to `Delete`."""
    exited_at = timestamps.from_ns(end.exited_at_ns) if end.exited_at_ns else None
    return v2.DeleteResponse(pid=end.pid, exit_status=end.exit_status, exited_at=exited_at)


def pids_response(processes: list[ProcessInfo]) -> v2.PidsResponse:
    """The answer to `Pids`; an exec is named in the details that runc's shim gives."""
    return v2.PidsResponse(processes=[_process_info(process) for process in processes])


def _process_info(process: ProcessInfo) -> types.ProcessInfo:
    details = anys.pack(ProcessDetails(exec_id=process.exec_id)) if process.exec_id else None
    return types.ProcessInfo(pid=process.pid, info=details)


def _stdio(message: v2.CreateTaskRequest | v2.ExecProcessRequest) -> StdioUris:
    return StdioUris(message.stdin, message.stdout, message.stderr, message.terminal)


def _json(packed: Any, expected: str, what: str) -> bytes:
    if packed.type_url != expected:
        raise InvalidArgumentError(f"{what} of type {packed.type_url[:120]!r}: {expected!r} expected")
    return bytes(packed.value)
