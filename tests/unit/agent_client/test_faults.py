"""A guest that is slow, lies, floods or dies: the caller gets one error, with its kind, and never hangs."""

from __future__ import annotations

import asyncio
import inspect
import re

import pytest
from grpclib.const import Status

from agent_client import attendance, deadlines
from agent_client.client import AgentClient
from agent_client.errors import AgentError, fold
from protos.gen import grpc as pb
from tests.fakes.agent import PATIENCE, FakeAgent

pytestmark = pytest.mark.anyio


async def fault(call) -> AgentError:
    async with asyncio.timeout(PATIENCE):
        with pytest.raises(AgentError) as caught:
            await call
    return caught.value


async def test_an_error_of_the_agent_keeps_its_code_and_names_the_rpc(agent, client):
    agent.fail("StartContainer", Status.NOT_FOUND, "no such\nfile\x1b[31m")

    error = await fault(client.start_container("c1"))

    assert (error.rpc, error.code, error.lost) == ("StartContainer", Status.NOT_FOUND, False)
    assert error.message == "no such file?[31m"
    assert str(error) == "agent StartContainer: NOT_FOUND: no such file?[31m"
    assert error.__cause__ is not None


async def test_an_agent_that_says_unavailable_is_not_lost(agent, client):
    agent.fail("PauseContainer", Status.UNAVAILABLE, "busy")

    error = await fault(client.pause_container("c1"))

    assert (error.code, error.lost) == (Status.UNAVAILABLE, False)
    await client.check()


async def test_an_error_without_a_text_still_says_something(agent, client):
    agent.fail("PauseContainer", Status.INTERNAL)

    assert (await fault(client.pause_container("c1"))).message == "the agent gave no reason"


async def test_a_call_that_is_not_answered_ends_at_its_deadline_and_the_next_one_works(agent, client):
    agent.block("StatsContainer")

    error = await fault(client.stats_container("c1", timeout=0.05))

    assert (error.code, error.lost) == (Status.DEADLINE_EXCEEDED, False)
    assert error.message == "no answer in 0.05 s"
    await client.check()


async def test_an_agent_that_gave_up_itself_says_what_it_waited_for(agent, client):
    agent.fail("CreateContainer", Status.DEADLINE_EXCEEDED, "device 02/03 did not appear within 3 s")

    error = await fault(client.create_container(container_id="c1", oci=pb.Spec()))

    assert (error.code, error.message) == (Status.DEADLINE_EXCEEDED, "device 02/03 did not appear within 3 s")


async def test_a_deadline_that_has_passed_in_the_guest_only_is_not_told_as_time_that_went_by(agent, client):
    agent.fail("CreateContainer", Status.DEADLINE_EXCEEDED, "context deadline exceeded")

    error = await fault(client.create_container(container_id="c1", oci=pb.Spec(), timeout=600))

    assert error.code is Status.DEADLINE_EXCEEDED
    assert re.fullmatch(r"given up by the guest after \d+\.\d s, though it had 600 s", error.message)


async def test_while_an_answer_is_long_in_coming_the_agent_is_asked_whether_it_serves(agent, client, monkeypatch):
    monkeypatch.setattr(attendance, "PATIENCE", 0.05)
    before = len(agent.requests("Check"))
    agent.block("CreateContainer")

    error = await fault(client.create_container(container_id="c1", oci=pb.Spec(), timeout=0.5))

    assert len(agent.requests("Check")) > before + 1
    assert error.message == "no answer in 0.5 s, though the agent answers others"
    assert "Attendance" not in str(asyncio.all_tasks())


async def test_of_a_guest_that_answers_nothing_nothing_else_is_said(agent, client, monkeypatch):
    monkeypatch.setattr(attendance, "PATIENCE", 0.05)
    agent.block("CreateContainer")
    agent.block("Check")

    error = await fault(client.create_container(container_id="c1", oci=pb.Spec(), timeout=0.5))

    assert error.message == "no answer in 0.5 s"


async def test_a_slow_call_does_not_hold_up_others(agent, client):
    agent.block("StatsContainer")
    slow = asyncio.ensure_future(client.stats_container("c1"))
    await agent.called("StatsContainer")

    await client.check()

    assert not slow.done()
    agent.release("StatsContainer")
    assert (await fault(slow)).code is Status.NOT_FOUND


async def test_a_lost_connection_fails_every_call_under_way_and_every_later_one(agent, client):
    await client.create_container(container_id="c1", oci=pb.Spec())
    await client.start_container("c1")
    waiting = [
        asyncio.ensure_future(client.wait_process("c1", "")),
        asyncio.ensure_future(client.read_stdout("c1", "", 10)),
        asyncio.ensure_future(client.get_oom_event()),
    ]
    await agent.called("GetOOMEvent")

    agent.drop()

    for call in waiting:
        error = await fault(call)
        assert (error.code, error.lost) == (Status.UNAVAILABLE, True)
    async with asyncio.timeout(PATIENCE):
        await client.wait_closed()
    assert client.closed
    assert (await fault(client.check())).lost


async def test_a_client_that_is_closed_answers_no_more_calls(client):
    client.close()
    client.close()

    error = await fault(client.check())

    assert (error.code, error.lost) == (Status.UNAVAILABLE, True)


@pytest.mark.parametrize("rpc", ["ReadStdout", "ReadStderr"])
async def test_more_output_than_asked_for_is_an_error(agent, client, rpc):
    agent.answer(rpc, pb.ReadStreamResponse(data=b"x" * 11))
    read = client.read_stdout if rpc == "ReadStdout" else client.read_stderr

    error = await fault(read("c1", "", 10))

    assert (error.rpc, error.code) == (rpc, Status.INTERNAL)
    assert error.message == "the agent's answer can't be right: 11 bytes read where at most 10 were asked for"


@pytest.mark.parametrize(("sent", "taken"), [(b"abc", 4), (b"abc", 0), (b"abc", 2**32 - 1), (b"", 1)])
async def test_input_taken_that_was_not_sent_or_none_at_all_is_an_error(agent, client, sent, taken):
    agent.answer("WriteStdin", pb.WriteStreamResponse(len=taken))

    error = await fault(client.write_stdin("c1", "", sent))

    assert error.message == f"the agent's answer can't be right: {taken} bytes taken of {len(sent)}"


@pytest.mark.parametrize("taken", [1, 2, 3])
async def test_input_taken_in_part_is_told(agent, client, taken):
    agent.answer("WriteStdin", pb.WriteStreamResponse(len=taken))

    assert await client.write_stdin("c1", "", b"abc") == taken


async def test_an_endless_container_id_in_an_oom_event_is_an_error(agent, client):
    agent.answer("GetOOMEvent", pb.OomEvent(container_id="x" * 257))

    assert "a container id of 257 characters" in (await fault(client.get_oom_event())).message


async def test_text_of_the_guest_is_folded(agent, client):
    agent.answer("GetOOMEvent", pb.OomEvent(container_id="c1\n\x07"))
    agent.answer("Version", pb.VersionCheckResponse(grpc_version="1\x1b", agent_version="a\nb"))

    assert await client.get_oom_event() == "c1 ?"
    assert await client.version() == ("1?", "a b")


async def test_a_reply_that_is_too_large_fails_its_call_only(agent, client):
    agent.answer("GetMetrics", pb.Metrics(metrics="x" * (5 << 20)))

    error = await fault(client.upkeep.get_metrics())

    assert (error.code, error.lost) == (Status.RESOURCE_EXHAUSTED, False)
    await client.check()


async def test_a_request_that_is_too_large_fails_its_call_only(client):
    error = await fault(client.upkeep.set_policy("x" * (5 << 20)))

    assert (error.code, error.lost) == (Status.RESOURCE_EXHAUSTED, False)
    await client.check()


@pytest.mark.parametrize("rows", [-1, 2**32])
async def test_a_value_that_its_field_can_not_carry_is_not_sent(agent, client, rows):
    error = await fault(client.tty_win_resize("c1", "", rows, 80))

    assert error.code is Status.INVALID_ARGUMENT
    assert agent.requests("TtyWinResize") == []


async def test_a_cancelled_call_leaves_the_connection_usable(agent, client):
    waiting = asyncio.ensure_future(client.get_oom_event())
    await agent.called("GetOOMEvent")

    waiting.cancel()

    with pytest.raises(asyncio.CancelledError):
        await waiting
    await client.check()


async def test_an_agent_that_does_not_serve_is_not_connected_to(agent):
    agent.answer("Check", pb.HealthCheckResponse(status=pb.HealthCheckResponseServingStatus.NOT_SERVING))

    error = await fault(AgentClient.connect(agent.url, timeout=PATIENCE))

    assert (error.rpc, error.code) == ("connect", Status.UNAVAILABLE)
    assert "the agent does not serve" in error.message


async def test_an_agent_that_listens_and_never_answers_fails_the_connecting_in_time(agent):
    agent.block("Check")

    error = await fault(AgentClient.connect(agent.url, timeout=0.1))

    assert (error.rpc, error.code, error.lost) == ("connect", Status.DEADLINE_EXCEEDED, False)
    assert error.message.startswith(f"{agent.url}: agent Check: DEADLINE_EXCEEDED: no answer in 0")


async def test_a_port_that_nobody_opens_fails_the_connecting_in_time(tmp_path):
    async with FakeAgent(tmp_path / "a", kind="serial", mute=True) as agent:
        error = await fault(AgentClient.connect(agent.url, timeout=0.05))

    assert (error.rpc, error.code, error.lost) == ("connect", Status.DEADLINE_EXCEEDED, False)
    assert "no agent has opened it" in error.message


async def test_a_vm_that_is_gone_fails_the_connecting_at_once(tmp_path):
    error = await fault(AgentClient.connect(f"serial://{tmp_path}/a", timeout=PATIENCE))

    assert (error.rpc, error.code, error.lost) == ("connect", Status.UNAVAILABLE, True)
    assert error.message == f"serial://{tmp_path}/a: No such file or directory"


async def test_a_cancelled_connecting_closes_its_connection(agent):
    agent.block("Check")
    connecting = asyncio.ensure_future(AgentClient.connect(agent.url, timeout=PATIENCE))
    await agent.called("Check")

    connecting.cancel()

    with pytest.raises(asyncio.CancelledError):
        await connecting


async def test_a_url_that_is_none_is_a_value_error():
    with pytest.raises(ValueError, match="not an agent URL"):
        await AgentClient.connect("tcp://1.2.3.4", timeout=1)


@pytest.mark.parametrize("method", ["wait_process", "read_stdout", "read_stderr", "get_oom_event"])
def test_what_may_never_happen_has_no_deadline(method):
    assert inspect.signature(getattr(AgentClient, method)).parameters["timeout"].default is deadlines.UNLIMITED


def test_every_other_call_has_one():
    unlimited = {
        name
        for name, method in inspect.getmembers(AgentClient, inspect.iscoroutinefunction)
        if "timeout" in inspect.signature(method).parameters
        and inspect.signature(method).parameters["timeout"].default is None
    }

    assert unlimited == {"wait_process", "read_stdout", "read_stderr", "get_oom_event"}


def test_a_long_text_is_cut():
    assert len(fold("x" * 100_000)) == 2000
    assert fold("x" * 100_000).endswith("...")
