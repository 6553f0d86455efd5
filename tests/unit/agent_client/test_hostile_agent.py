"""An agent that attacks: one printable error for the call, the others go on, the loop runs, memory stays small."""

from __future__ import annotations

import asyncio
import time
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from grpclib.const import Status

from agent_client import handshake
from agent_client.client import AgentClient
from agent_client.errors import AgentError
from agent_client.keeper import LOSSES_MAX, keep_connected
from agent_client.streams import Input, Output
from protos.codec import MessageCodec
from protos.gen import grpc as pb
from tests.fakes import malicious_agent as evil
from tests.fakes.agent import PATIENCE
from tests.fakes.malicious_agent import MaliciousAgent, answer, frame
from ttrpc.client import Channel

pytestmark = pytest.mark.anyio

MIB = 1 << 20
#: What any attack may make the process allocate at its worst moment: a few frames of 4 MiB.
MEMORY_MAX = 40 * MIB
#: How long any attack may keep the event loop from its other work, in seconds, on a busy machine.
STALL_MAX = 5.0

CALLS: dict[str, Callable[[AgentClient], Awaitable[object]]] = {
    "WaitProcess": lambda client: client.wait_process("c1", "", timeout=0.5),
    "ReadStdout": lambda client: client.read_stdout("c1", "", 32768, timeout=0.5),
    "WriteStdin": lambda client: client.write_stdin("c1", "", b"data", timeout=0.5),
    "StatsContainer": lambda client: client.stats_container("c1", timeout=0.5),
    "GetOOMEvent": lambda client: client.get_oom_event(timeout=0.5),
    "CreateContainer": lambda client: client.create_container(container_id="c1", oci=pb.Spec(), timeout=0.5),
    "GetGuestDetails": lambda client: client.get_guest_details(timeout=0.5),
}
#: After these nothing more can come over the connection.
FATAL = {evil.four_gigabytes, evil.truncated, evil.hang_up}


@pytest.fixture
async def agent(tmp_path: Path) -> AsyncIterator[MaliciousAgent]:
    async with MaliciousAgent(tmp_path / "agent") as malicious:
        yield malicious


@pytest.fixture
async def client(agent: MaliciousAgent) -> AsyncIterator[AgentClient]:
    connected = await AgentClient.connect(agent.url, timeout=PATIENCE)
    yield connected
    connected.close()
    await connected.wait_closed()


@asynccontextmanager
async def harmless(memory: int = MEMORY_MAX, stall: float = STALL_MAX) -> AsyncIterator[None]:
    """Fails if the body makes the process allocate more than `memory`, or holds the loop up for longer than `stall`."""
    worst = 0.0

    async def heartbeat() -> None:
        nonlocal worst
        while True:
            before = time.monotonic()
            await asyncio.sleep(0.01)
            worst = max(worst, time.monotonic() - before - 0.01)

    beating = asyncio.ensure_future(heartbeat())
    await asyncio.sleep(0)
    tracemalloc.start()
    try:
        yield
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
        beating.cancel()
    assert peak < memory
    assert worst < stall


@pytest.mark.parametrize("attack", evil.ON_ANY_CALL, ids=lambda attack: attack.__name__)
@pytest.mark.parametrize("rpc", CALLS)
async def test_an_attack_on_a_call_is_an_error_of_that_call_only(agent, client, rpc, attack):
    agent.on(rpc, attack)

    async with harmless(), asyncio.timeout(PATIENCE):
        with pytest.raises(AgentError) as caught:
            await CALLS[rpc](client)

        assert str(caught.value).isprintable()
        assert len(str(caught.value)) < 2200
        if attack not in FATAL:
            assert not caught.value.lost
            await client.check()


async def test_the_same_answer_a_thousand_times_is_one_answer(agent, client):
    agent.on("PauseContainer", evil.twice)

    async with harmless():
        await client.pause_container("c1")
        await client.check()


async def test_answers_in_any_order_reach_their_own_callers(agent, client):
    held: list[tuple[evil.Session, int, str]] = []

    def hold(session: evil.Session, stream_id: int, payload: bytes) -> None:
        held.append((session, stream_id, pb.StatsContainerRequest.parse(payload).container_id))

    agent.on("GetMetrics", hold)
    agent.on("StatsContainer", hold)
    calls = [asyncio.ensure_future(client.stats_container(f"c{number}")) for number in range(20)]
    await agent.called("StatsContainer", 20)

    for session, stream_id, name in reversed(held):
        stats = pb.StatsContainerResponse(network_stats=[pb.NetworkStats(name=name)])
        await session.send(answer(stream_id, stats))

    replies = await asyncio.wait_for(asyncio.gather(*calls), PATIENCE)
    assert [reply.network_stats[0].name for reply in replies] == [f"c{number}" for number in range(20)]


async def test_an_answer_to_a_call_that_was_given_up_harms_nobody(agent, client):
    late: list[tuple[evil.Session, int]] = []
    agent.on("StatsContainer", lambda session, stream_id, payload: late.append((session, stream_id)))
    with pytest.raises(AgentError):
        await client.stats_container("c1", timeout=0.05)

    await late[0][0].send(answer(late[0][1], b"") * 10)

    await client.check()


async def test_a_flood_for_strangers_does_not_stop_the_calls_of_others(agent, client):
    stop = asyncio.Event()

    async def flood(session: evil.Session, stream_id: int, payload: bytes) -> None:
        junk = frame(2, bytes(1000)) * 60 + frame(0xFFFFFFFF, b"", kind=9) * 1000
        while not stop.is_set():
            await session.send(junk)

    agent.on("GetOOMEvent", flood)
    flooding = asyncio.ensure_future(client.get_oom_event())
    await agent.called("GetOOMEvent")

    async with harmless(), asyncio.timeout(PATIENCE):
        for _ in range(20):
            await client.check()

    stop.set()
    flooding.cancel()


@pytest.mark.parametrize("length", [11, 70_000, 4 * MIB - 20])
async def test_more_output_than_asked_for_is_refused(agent, client, length):
    agent.on(
        "ReadStdout",
        lambda session, stream_id, payload: session.send(answer(stream_id, pb.ReadStreamResponse(data=bytes(length)))),
    )

    async with harmless():
        with pytest.raises(AgentError) as caught:
            await Output(client, "c1", "").read(10)

    assert caught.value.code in {Status.INTERNAL, Status.RESOURCE_EXHAUSTED}


async def test_gigabytes_of_output_pass_through_without_staying(agent, client):
    chunk = pb.ReadStreamResponse(data=bytes(1 << 20))
    agent.on("ReadStdout", lambda session, stream_id, payload: session.send(answer(stream_id, chunk)))
    stdout = Output(client, "c1", "")

    async with harmless():
        for _ in range(200):
            assert len(await stdout.read(1 << 20)) == 1 << 20


@pytest.mark.parametrize("taken", [0, 5, -1, 1 << 31, (1 << 64) - 1])
async def test_an_absurd_count_of_input_is_refused(agent, client, taken):
    reply = b"\x08" + evil._varint(taken & (1 << 64) - 1)
    agent.on("WriteStdin", lambda session, stream_id, payload: session.send(answer(stream_id, reply)))

    async with harmless(), asyncio.timeout(PATIENCE):
        with pytest.raises(AgentError, match="can't be right"):
            await Input(client, "c1", "").write(b"data")


async def test_statistics_with_a_hundred_thousand_entries_are_refused_unread(agent, client):
    stats = pb.MemoryStats(stats={f"key{number}": number for number in range(100_000)})
    reply = answer(0, pb.StatsContainerResponse(cgroup_stats=pb.CgroupStats(memory_stats=stats)))
    body = reply[10:]
    agent.on("StatsContainer", lambda session, stream_id, payload: session.send(frame(stream_id, body)))

    async with harmless():
        with pytest.raises(AgentError) as caught:
            await client.stats_container("c1")

    assert caught.value.code is Status.RESOURCE_EXHAUSTED
    assert "where at most 524288 are expected" in str(caught.value)


async def test_an_agent_that_reads_nothing_makes_callers_wait_no_longer_than_their_deadlines(agent, client):
    deaf = asyncio.Event()
    agent.on_connect = lambda session: deaf.wait()
    fresh = await asyncio.wait_for(_connected_deaf(agent), PATIENCE)

    async with harmless(), asyncio.timeout(PATIENCE):
        calls = [fresh.write_stdin("c1", "", bytes(32768), timeout=0.3) for _ in range(200)]
        results = await asyncio.gather(*calls, return_exceptions=True)

    assert {type(result) for result in results} == {AgentError}
    assert {result.code for result in results if isinstance(result, AgentError)} == {Status.DEADLINE_EXCEEDED}
    fresh.close()
    await asyncio.wait_for(fresh.wait_closed(), PATIENCE)
    deaf.set()


async def _connected_deaf(agent: MaliciousAgent) -> AgentClient:
    """A client over a connection that the agent accepts and does not read; `connect` would ask whether it serves."""
    _, path = agent.url.split("://")
    return AgentClient(await Channel.connect_unix(path, MessageCodec(), timeout=PATIENCE), agent.url)


async def test_greetings_without_end_are_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr(handshake, "MAX_DISCARDED", 8 * MIB)
    async with MaliciousAgent(tmp_path / "noisy") as agent:

        async def noise(session: evil.Session) -> None:
            while True:
                await session.send(b"OK " + b"0" * 32 + b"\n" + bytes(65536))

        agent.on_connect = noise

        async with harmless(), asyncio.timeout(PATIENCE):
            with pytest.raises(AgentError, match="bytes came before the agent's OK"):
                await AgentClient.connect(f"serial://{agent.path}", timeout=PATIENCE)
            with pytest.raises(AgentError, match="the VMM answered CONNECT"):
                await AgentClient.connect(f"hvsock://{agent.path}:1024", timeout=PATIENCE)


async def test_an_agent_that_hangs_up_at_every_call_is_given_up(agent, client):
    keeping = asyncio.ensure_future(keep_connected(client))
    agent.on("GetOOMEvent", evil.hang_up)

    async with harmless(), asyncio.timeout(PATIENCE):
        while not keeping.done():
            with pytest.raises(AgentError):
                await client.get_oom_event()
            await client.restored()

    assert f"lost {LOSSES_MAX} times" in await keeping
    assert agent.connections <= LOSSES_MAX + 1
