"""A connection that is lost while its guest lives: made again, calls in flight told so, streams whole."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from grpclib.const import Status

from agent_client import keeper
from agent_client.client import AgentClient
from agent_client.errors import AgentError
from agent_client.keeper import keep_connected
from agent_client.streams import Input, Output, repeated
from protos.gen import grpc as pb
from tests.fakes.agent import PATIENCE, FakeAgent

pytestmark = pytest.mark.anyio


@pytest.fixture
async def kept(agent: FakeAgent, client: AgentClient) -> AsyncIterator[AgentClient]:
    """A client with a running container, whose connection is kept."""
    await client.create_container(container_id="c1", oci=pb.Spec())
    await client.start_container("c1")
    keeping = asyncio.ensure_future(keep_connected(client))
    await asyncio.sleep(0)
    yield client
    client.close()
    async with asyncio.timeout(PATIENCE):
        assert await keeping


async def fault(call) -> AgentError:
    async with asyncio.timeout(PATIENCE):
        with pytest.raises(AgentError) as caught:
            await call
    return caught.value


async def soon(call):
    async with asyncio.timeout(PATIENCE):
        return await call


async def test_a_call_under_way_fails_as_lost_and_a_later_one_waits_for_the_new_connection(agent, kept):
    agent.block("StatsContainer")
    under_way = asyncio.ensure_future(kept.stats_container("c1"))
    await agent.called("StatsContainer")

    agent.drop()

    assert (await fault(under_way)).lost
    await soon(kept.check())
    assert len(agent.requests("StatsContainer")) == 1


async def test_a_wait_goes_on_over_any_number_of_connections(agent, kept):
    waiting = asyncio.ensure_future(repeated(kept, lambda: kept.wait_process("c1", "")))
    for count in range(1, 4):
        await agent.called("WaitProcess", count)
        agent.drop()
        await soon(kept.restored())
    await agent.called("WaitProcess", 4)

    agent.process("c1").exit(7)

    assert await soon(waiting) == 7


async def test_output_that_was_answered_and_not_received_is_given_again(agent, kept):
    stdout = Output(kept, "c1", "")
    agent.process("c1").stdout.write(b"first second")
    assert await soon(stdout.read(6)) == b"first "
    agent.lose_answer("ReadStdout")

    assert await soon(stdout.read(6)) == b"second"

    agent.process("c1").exit(0)
    agent.lose_answer("ReadStdout")
    assert await soon(stdout.read(6)) == b""


async def test_a_reader_that_waits_when_the_connection_goes_gets_what_comes_later(agent, kept):
    stderr = Output(kept, "c1", "", is_stderr=True)
    reading = asyncio.ensure_future(stderr.read(10))
    await agent.called("ReadStderr")
    agent.drop()
    await agent.called("ReadStderr", 2)

    agent.process("c1").stderr.write(b"late")

    assert await soon(reading) == b"late"


async def test_input_whose_acknowledgement_was_lost_is_taken_once(agent, kept):
    stdin = Input(kept, "c1", "")
    await soon(stdin.write(b"one "))
    agent.lose_answer("WriteStdin")
    await soon(stdin.write(b"two "))
    await soon(stdin.write(b"three"))
    agent.lose_answer("CloseStdin")
    await soon(stdin.close())

    assert agent.process("c1").stdin == b"one two three"
    assert agent.process("c1").stdin_closed


async def test_input_that_is_taken_in_pieces_keeps_its_positions(agent, kept):
    agent.answer("WriteStdin", lambda request: pb.WriteStreamResponse(len=1))

    await soon(Input(kept, "c1", "").write(b"abc"))

    assert [(request.position, request.data) for request in agent.requests("WriteStdin")] == [
        (0, b"abc"),
        (1, b"bc"),
        (2, b"c"),
    ]


async def test_a_stock_agent_s_output_goes_on_and_the_gap_is_told(agent, kept, caplog):
    agent.is_stock = True
    stdout = Output(kept, "c1", "")
    agent.process("c1").stdout.write(b"lost kept")
    agent.lose_answer("ReadStdout")

    assert await soon(stdout.read(5)) == b"kept"

    assert "up to 5 bytes of stdout of c1/ after 0 are missing" in caplog.text


async def test_a_stock_agent_s_input_ends_with_an_error_rather_than_a_gap_or_a_repetition(agent, kept):
    agent.is_stock = True
    agent.lose_answer("WriteStdin")

    error = await fault(Input(kept, "c1", "").write(b"data"))

    assert (error.code, error.lost) == (Status.DATA_LOSS, False)
    assert len(agent.requests("WriteStdin")) == 1


async def test_an_agent_that_takes_no_new_connection_is_given_up_in_time_and_everybody_is_told(
    agent, client, monkeypatch
):
    monkeypatch.setattr(keeper, "RECONNECT_TIMEOUT", 0.3)
    agent.refuse()
    keeping = asyncio.ensure_future(keep_connected(client))
    waiting = asyncio.ensure_future(repeated(client, client.get_oom_event))
    await agent.called("GetOOMEvent")

    agent.drop()

    cause = await soon(keeping)
    assert cause.startswith("the connection to the agent was lost (ttrpc: closed: ")
    assert "and can't be made again: " in cause
    assert (await fault(waiting)).lost


async def test_a_new_connection_that_stays_silent_is_given_up_for_another(agent, client, monkeypatch):
    monkeypatch.setattr(keeper, "_FIRST_ATTEMPT", 0.2)
    keeping = asyncio.ensure_future(keep_connected(client))
    await asyncio.sleep(0)
    agent.block("Check", times=1)
    agent.drop()
    await soon(client.wait_closed())

    async with asyncio.timeout(PATIENCE):
        await client.get_guest_details()

    client.close()
    await soon(keeping)


async def test_an_agent_that_listens_and_says_nothing_is_given_up_in_time(agent, client, monkeypatch):
    monkeypatch.setattr(keeper, "RECONNECT_TIMEOUT", 0.3)
    keeping = asyncio.ensure_future(keep_connected(client))
    await asyncio.sleep(0)
    agent.block("Check")

    agent.drop()

    assert "no answer in 0." in await soon(keeping)


async def test_an_agent_that_drops_every_connection_is_given_up(agent, client):
    keeping = asyncio.ensure_future(keep_connected(client))
    for _ in range(keeper.LOSSES_MAX):
        agent.drop()
        await client.wait_closed()
        await soon(client.restored())

    assert f"lost {keeper.LOSSES_MAX} times in 60 s" in await soon(keeping)
    assert (await fault(client.check())).lost


async def test_nobody_waits_for_a_connection_that_nobody_makes(agent, client):
    agent.drop()
    await soon(client.wait_closed())

    assert (await fault(client.check())).lost
    assert not await client.restored()


async def test_a_call_waits_no_longer_than_its_own_deadline(agent, kept):
    agent.block("Check")
    agent.drop()
    await soon(kept.wait_closed())

    error = await fault(kept.stats_container("c1", timeout=0.1))

    assert (error.code, error.lost) == (Status.UNAVAILABLE, True)
    agent.release()


async def test_a_client_that_is_closed_while_it_is_connected_again_stays_closed(agent, client):
    agent.block("Check")
    agent.drop()
    await soon(client.wait_closed())
    connecting = asyncio.ensure_future(client.reconnect(timeout=PATIENCE))
    await agent.called("Check", 2)

    client.close()
    agent.release()

    await soon(connecting)
    assert client.closed
    assert (await fault(client.check())).lost


async def test_a_failed_reconnect_leaves_the_client_as_it_was(agent, client):
    agent.drop()
    await soon(client.wait_closed())
    agent.fail("GetGuestDetails", Status.INTERNAL, "no", times=1)

    assert (await fault(client.reconnect(timeout=PATIENCE))).rpc == "GetGuestDetails"
    assert client.closed

    await soon(client.reconnect(timeout=PATIENCE))
    await soon(client.check())
