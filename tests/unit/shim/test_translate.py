"""Messages and plain values: everything is carried over, and what makes no sense is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from protos import anys, timestamps
from protos.gen.containerd.runc.v1 import ProcessDetails
from protos.gen.containerd.task import v2
from protos.gen.containerd.types import Mount as MountMessage
from protos.gen.runtimeoptions.v1 import Options
from protos.gen.wellknown import Any
from sandbox.errors import InvalidArgumentError
from sandbox.interface import ExitInfo, Mount, ProcessInfo, ProcessState, ProcessStatus, StdioUris
from shim import translate


def test_a_create_request_keeps_everything() -> None:
    message = v2.CreateTaskRequest(
        id="c1",
        bundle="/run/b/c1",
        rootfs=[MountMessage(type="overlay", source="overlay", target="/x", options=["lowerdir=/a:/b", "ro"])],
        terminal=True,
        stdin="/i",
        stdout="/o",
        stderr="/e",
        checkpoint="/check",
        options=anys.pack(Options(config_path="/etc/k.toml")),
    )

    request = translate.create_request(message)

    assert (request.container_id, request.bundle) == ("c1", Path("/run/b/c1"))
    assert request.rootfs == (Mount("overlay", "overlay", "/x", ("lowerdir=/a:/b", "ro")),)
    assert request.io == StdioUris("/i", "/o", "/e", terminal=True)
    assert (request.checkpoint, request.config_path) == ("/check", Path("/etc/k.toml"))


@pytest.mark.parametrize("options", [None, Any(type_url="containerd.runc.v1.Options", value=b"\xff")])
def test_foreign_options_name_no_configuration(options: Any | None) -> None:
    request = translate.create_request(v2.CreateTaskRequest(id="c1", bundle="/b", options=options))

    assert request.config_path is None


@pytest.mark.parametrize(
    "message",
    [
        v2.CreateTaskRequest(id="", bundle="/b"),
        v2.CreateTaskRequest(id="../c", bundle="/b"),
        v2.CreateTaskRequest(id="a/b", bundle="/b"),
        v2.CreateTaskRequest(id="x" * 77, bundle="/b"),
        v2.CreateTaskRequest(id="c1", bundle=""),
        v2.CreateTaskRequest(id="c1", bundle="relative"),
        v2.CreateTaskRequest(
            id="c1", bundle="/b", options=Any(type_url="runtimeoptions.v1.Options", value=b"\x12\xff")
        ),
    ],
)
def test_a_senseless_create_request_is_refused(message: v2.CreateTaskRequest) -> None:
    with pytest.raises(InvalidArgumentError):
        translate.create_request(message)


def test_an_exec_request_keeps_everything() -> None:
    message = v2.ExecProcessRequest(
        id="c1", exec_id="e1", stdout="/o", spec=Any(type_url=anys.PROCESS_URL, value=b'{"args": []}')
    )

    request = translate.exec_request(message)

    assert (request.container_id, request.exec_id, request.process) == ("c1", "e1", b'{"args": []}')
    assert request.io == StdioUris(stdout="/o")


@pytest.mark.parametrize(
    ("exec_id", "spec"),
    [
        ("e1", None),
        ("e1", Any(type_url="other", value=b"{}")),
        ("../e", Any(type_url=anys.PROCESS_URL, value=b"{}")),
        ("", Any(type_url=anys.PROCESS_URL, value=b"{}")),
    ],
)
def test_a_senseless_exec_request_is_refused(exec_id: str, spec: Any | None) -> None:
    with pytest.raises(InvalidArgumentError):
        translate.exec_request(v2.ExecProcessRequest(id="c1", exec_id=exec_id, spec=spec))


@pytest.mark.parametrize("resources", [None, Any(type_url=anys.PROCESS_URL, value=b"{}")])
def test_an_update_needs_resources(resources: Any | None) -> None:
    with pytest.raises(InvalidArgumentError):
        translate.resources(v2.UpdateTaskRequest(id="c1", resources=resources))


def test_resources_stay_json() -> None:
    packed = Any(type_url=anys.LINUX_RESOURCES_URL, value=b'{"memory": {}}')

    assert translate.resources(v2.UpdateTaskRequest(id="c1", resources=packed)) == b'{"memory": {}}'


@pytest.mark.parametrize("number", [65, 4_000_000_000])
def test_a_signal_that_is_none_is_refused(number: int) -> None:
    with pytest.raises(InvalidArgumentError, match="no such signal"):
        translate.signal_number(v2.KillRequest(id="c1", signal=number))


def _state(exec_id: str = "", exited_at_ns: int = 0) -> ProcessState:
    io = StdioUris("/i", "/o", "/e", terminal=True)
    return ProcessState("c1", exec_id, Path("/b"), 42, ProcessStatus.RUNNING, io, 3, exited_at_ns)


def test_the_state_of_a_living_process_has_no_end() -> None:
    response = translate.state_response(_state())

    assert (response.id, response.exec_id, response.bundle, response.pid) == ("c1", "", "/b", 42)
    assert (response.stdin, response.stdout, response.stderr, response.terminal) == ("/i", "/o", "/e", True)
    assert response.status == 2
    assert response.exited_at is None


def test_the_state_of_an_exec_has_its_own_id_and_its_end_to_the_nanosecond() -> None:
    response = translate.state_response(_state("e1", 1_700_000_000_123_456_789))

    assert (response.id, response.exec_id, response.exit_status) == ("e1", "e1", 3)
    assert response.exited_at is not None
    assert timestamps.to_ns(response.exited_at) == 1_700_000_000_123_456_789


def test_every_status_has_containerds_number() -> None:
    for status in ProcessStatus:
        state = ProcessState("c1", "", Path("/b"), 1, status, StdioUris())
        assert translate.state_response(state).status == int(status)


def test_an_exit_is_told_alike_by_wait_and_delete() -> None:
    end = ExitInfo(42, 137, 1_000_000_001)

    waited, deleted = translate.wait_response(end), translate.delete_response(end)

    assert waited.exit_status == deleted.exit_status == 137
    assert waited.exited_at == deleted.exited_at
    assert deleted.pid == 42
    assert translate.delete_response(ExitInfo(42, 0, 0)).exited_at is None


def test_execs_are_named_among_the_pids() -> None:
    response = translate.pids_response([ProcessInfo(42), ProcessInfo(42, "e1")])

    assert [process.pid for process in response.processes] == [42, 42]
    assert response.processes[0].info is None
    assert response.processes[1].info is not None
    assert anys.unpack(response.processes[1].info, ProcessDetails).exec_id == "e1"
