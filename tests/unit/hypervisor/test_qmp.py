"""A QMP session against a scripted QEMU: deadlines, words of the peer, silence at the end."""

from __future__ import annotations

import json
import logging
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import anyio.abc
import pytest

from hypervisor.errors import QmpError
from hypervisor.qmp import EVENTS_KEPT, QmpEvent, QmpSession

pytestmark = pytest.mark.anyio
PATIENCE = 5.0
GREETING = {"QMP": {"version": {"qemu": {"major": 7, "minor": 2, "micro": 0}, "package": ""}, "capabilities": []}}
Answer = Callable[[dict[str, Any]], list[dict[str, Any]]]


@pytest.fixture(params=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    return "asyncio", {"use_uvloop": request.param == "uvloop"}


class ScriptedQemu:
    """The other end: greets, then answers each command as `answer` says."""

    def __init__(self) -> None:
        self.ours, theirs = socket.socketpair()
        self._sock = theirs
        self.greeting: bytes | None = json.dumps(GREETING).encode() + b"\r\n"
        self.answer: Answer = lambda command: [{"return": {}}]

    async def run(self) -> None:
        stream = await anyio.abc.UNIXSocketStream.from_socket(self._sock)
        async with stream:
            try:
                if self.greeting is not None:
                    await stream.send(self.greeting)
                text = ""
                while True:
                    text += (await stream.receive()).decode()
                    # Commands come without a delimiter: QMP is a stream of JSON values.
                    while text:
                        command, end = json.JSONDecoder().raw_decode(text)
                        text = text[end:].lstrip()
                        await self._reply(stream, command)
            except (anyio.EndOfStream, anyio.BrokenResourceError, EOFError):
                pass

    async def _reply(self, stream: anyio.abc.ByteStream, command: dict[str, Any]) -> None:
        answers = [{"return": {}}] if command["execute"] == "qmp_capabilities" else self.answer(command)
        for message in answers:
            if "return" in message or "error" in message:
                message = message | {"id": command["id"]} if "id" in command else message
            await stream.send(json.dumps(message).encode() + b"\r\n")
        if not answers:
            raise EOFError


@asynccontextmanager
async def connected() -> AsyncIterator[tuple[ScriptedQemu, QmpSession]]:
    """A scripted QEMU and the session with it."""
    qemu = ScriptedQemu()
    with anyio.fail_after(PATIENCE):
        async with anyio.create_task_group() as group:
            group.start_soon(qemu.run)
            session = await QmpSession.over_socket(qemu.ours, PATIENCE)
            yield qemu, session
            await session.close()
            group.cancel_scope.cancel()


async def test_a_command_returns_its_value():
    async with connected() as (qemu, session):
        qemu.answer = lambda command: [{"return": {"name": command["execute"], "arguments": command.get("arguments")}}]
        assert await session.execute("query-x", {"a": 1}) == {"name": "query-x", "arguments": {"a": 1}}


async def test_a_refusal_is_told_in_qemu_s_words():
    async with connected() as (qemu, session):
        qemu.answer = lambda command: [{"error": {"class": "DeviceNotFound", "desc": "Device 'x' not\nfound"}}]
        with pytest.raises(QmpError) as caught:
            await session.execute("device_del", {"id": "x"})
        assert str(caught.value) == "QMP device_del: DeviceNotFound: Device 'x' not found"
        assert session.connected


async def test_a_command_without_an_answer_ends_at_its_deadline_and_the_session_lives():
    async with connected() as (qemu, session):
        qemu.answer = lambda command: [{"event": "STOP", "timestamp": {"seconds": 1, "microseconds": 0}}]
        with pytest.raises(QmpError, match=r"QMP stop: no answer within 0\.05 s"):
            await session.execute("stop", timeout=0.05)
        qemu.answer = lambda command: [{"return": 1}]
        assert await session.execute("query-x") == 1


async def test_events_are_recorded_in_order_and_bounded():
    async with connected() as (qemu, session):
        stamp = {"timestamp": {"seconds": 1, "microseconds": 0}}
        events = [{"event": "E", "data": {"n": number}, **stamp} for number in range(EVENTS_KEPT + 1)]
        qemu.answer = lambda command: [*events, {"event": "SHUTDOWN", **stamp}, {"return": {}}]
        await session.execute("quit")
        assert len(session.events) == EVENTS_KEPT
        assert list(session.events)[-2:] == [QmpEvent("E", {"n": EVENTS_KEPT}), QmpEvent("SHUTDOWN")]


async def test_a_hang_up_fails_the_command_and_close_is_silent_any_number_of_times(caplog: pytest.LogCaptureFixture):
    async with connected() as (qemu, session):
        qemu.answer = lambda command: []
        with caplog.at_level(logging.DEBUG):
            with pytest.raises(QmpError, match="QMP quit: "):
                await session.execute("quit")
            await session.drain()
            async with anyio.create_task_group() as group:
                group.start_soon(session.close)
                group.start_soon(session.close)
        assert not session.connected
        assert [record for record in caplog.records if record.name.startswith(("qemu", "hypervisor"))] == []


async def test_a_command_after_the_end_is_refused():
    async with connected() as (_, session):
        await session.close()
        with pytest.raises(QmpError, match="QMP stop: "):
            await session.execute("stop")


async def test_a_qemu_that_hangs_up_before_it_greets_is_a_lost_connection():
    ours, theirs = socket.socketpair()
    theirs.close()
    with pytest.raises(ConnectionError, match="hung up"):
        await QmpSession.over_socket(ours, PATIENCE)
    assert ours.fileno() == -1


async def test_a_qemu_that_does_not_greet_ends_at_the_deadline():
    ours, theirs = socket.socketpair()
    with pytest.raises(QmpError, match=r"did not answer on its monitor within 0\.05 s"):
        await QmpSession.over_socket(ours, 0.05)
    assert theirs.recv(1) == b""
    theirs.close()


async def test_a_peer_that_is_no_qemu_is_refused():
    ours, theirs = socket.socketpair()
    theirs.send(b"HTTP/1.1 200 OK\r\n")
    with pytest.raises(QmpError, match="no QMP session"):
        await QmpSession.over_socket(ours, PATIENCE)
    theirs.close()


async def test_a_cancelled_greeting_gives_the_socket_back():
    ours, theirs = socket.socketpair()
    with anyio.move_on_after(0.02):
        await QmpSession.over_socket(ours, PATIENCE)
    assert theirs.recv(1) == b""
    theirs.close()
