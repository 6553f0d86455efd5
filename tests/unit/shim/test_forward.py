"""The ways of an event, against containerd's service and containerd's command."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import anyio
import pytest
from grpclib.const import Status
from grpclib.exceptions import GRPCError

from protos import timestamps
from protos.anys import pack
from protos.codec import decode
from protos.gen.containerd import events
from protos.gen.containerd.types import Envelope
from protos.gen.wellknown import Any
from shim import forward
from shim.events import Publisher, UndeliveredError
from tests.fakes.containerd_events import FakeEvents

pytestmark = pytest.mark.anyio


def _envelope() -> Envelope:
    event = pack(events.TaskStart(container_id="c1", pid=7))
    return Envelope(timestamp=timestamps.now(), namespace="ns", topic="/tasks/start", event=event)


def test_ttrpc_comes_first_then_the_command_then_the_log() -> None:
    assert isinstance(forward.choose("/x.ttrpc", "/bin/c", "/x"), forward.TtrpcForward)
    assert isinstance(forward.choose("", "/bin/c", "/x"), forward.BinaryForward)
    assert isinstance(forward.choose("", "", "/x"), forward.LogForward)


async def test_an_event_arrives_over_ttrpc(tmp_path: Path) -> None:
    way = forward.TtrpcForward(str(tmp_path / "c.sock"))
    async with FakeEvents(tmp_path / "c.sock").serve() as service:
        await way(_envelope())
        await way(_envelope())
        way.close()

    assert service.messages == [events.TaskStart(container_id="c1", pid=7)] * 2


async def test_an_absent_containerd_means_again(tmp_path: Path) -> None:
    with pytest.raises(UndeliveredError, match=r"c\.sock"):
        await forward.TtrpcForward(str(tmp_path / "c.sock"))(_envelope())


async def test_a_busy_containerd_means_again(tmp_path: Path) -> None:
    way = forward.TtrpcForward(str(tmp_path / "c.sock"))
    async with FakeEvents(tmp_path / "c.sock").serve() as service:
        service.refuse = GRPCError(Status.UNAVAILABLE, "busy")
        with pytest.raises(UndeliveredError, match="busy"):
            await way(_envelope())


async def test_a_refusal_is_final(tmp_path: Path) -> None:
    way = forward.TtrpcForward(str(tmp_path / "c.sock"))
    envelope = _envelope()
    envelope.topic = "no slash"
    async with FakeEvents(tmp_path / "c.sock").serve():
        with pytest.raises(GRPCError, match="invalid namespace or topic"):
            await way(envelope)
        way.close()


async def test_an_event_that_is_too_large_is_not_tried_again(tmp_path: Path) -> None:
    way = forward.TtrpcForward(str(tmp_path / "c.sock"))
    envelope = _envelope()
    envelope.topic = "/" + "x" * (4 << 20)
    async with FakeEvents(tmp_path / "c.sock").serve():
        await way(_envelope())
        with pytest.raises(GRPCError, match="exceed maximum message size"):
            await way(envelope)
        way.close()


async def test_events_of_a_restart_arrive_in_order(tmp_path: Path) -> None:
    service = FakeEvents(tmp_path / "c.sock")
    publisher = Publisher("ns", forward.TtrpcForward(str(tmp_path / "c.sock")))
    async with anyio.create_task_group() as group:
        group.start_soon(publisher.run)
        publisher.publish(events.TaskCreate(container_id="c1"))
        async with service.serve():
            await service.wait_for(1)
        publisher.publish(events.TaskStart(container_id="c1"))
        publisher.publish(events.TaskExit(container_id="c1", id="c1"))
        async with service.serve():
            await service.wait_for(3)
        group.cancel_scope.cancel()

    assert service.topics == ["/tasks/create", "/tasks/start", "/tasks/exit"]


async def test_containerds_command_gets_the_event_on_its_input(tmp_path: Path) -> None:
    program = tmp_path / "containerd"
    code = "import sys, json; json.dump([sys.argv[1:], sys.stdin.buffer.read().hex()], open({!r}, 'w'))"
    program.write_text(f"#!{sys.executable} -IS\n" + code.format(str(tmp_path / "called")))
    program.chmod(0o755)

    await forward.BinaryForward(str(program), "/c.sock")(_envelope())

    arguments, data = json.loads((tmp_path / "called").read_text())
    assert arguments == ["--address", "/c.sock", "publish", "--topic", "/tasks/start", "--namespace", "ns"]
    assert decode(Any, bytes.fromhex(data)).type_url == "containerd.events.TaskStart"


async def test_a_failing_command_means_again_and_says_why(tmp_path: Path) -> None:
    program = tmp_path / "containerd"
    program.write_text("#!/bin/sh\necho no such socket >&2\nexit 3\n")
    program.chmod(0o755)

    with pytest.raises(UndeliveredError, match="no such socket"):
        await forward.BinaryForward(str(program), "/c.sock")(_envelope())


async def test_a_missing_command_means_again(tmp_path: Path) -> None:
    with pytest.raises(UndeliveredError, match="publish"):
        await forward.BinaryForward(str(tmp_path / "none"), "/c.sock")(_envelope())


async def test_a_hanging_command_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forward, "TIMEOUT", 0.2)
    program = tmp_path / "containerd"
    program.write_text("#!/bin/sh\nexec sleep 60\n")
    program.chmod(0o755)

    with pytest.raises(UndeliveredError):
        await forward.BinaryForward(str(program), "/c.sock")(_envelope())


async def test_the_log_takes_everything(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        await forward.LogForward()(_envelope())

    assert "/tasks/start" in caplog.text
