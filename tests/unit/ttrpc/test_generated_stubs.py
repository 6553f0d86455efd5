"""What betterproto2 generates, stubs and service bases, runs over a channel and a server unchanged."""

from __future__ import annotations

import asyncio
import importlib
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from grpclib.const import Status
from grpclib.exceptions import GRPCError

from tests.unit.ttrpc.support import PATIENCE, listener
from ttrpc.client import Channel
from ttrpc.codec import DecodeError
from ttrpc.server import Server

pytestmark = pytest.mark.anyio

_PROTO = """
syntax = "proto3";
package ttrpc_sample.v1;
message Note { string text = 1; uint32 number = 2; }
message Sum { uint64 total = 1; }
service Sample {
  rpc Double(Note) returns (Note);
  rpc Split(Note) returns (stream Note);
  rpc Add(stream Note) returns (Sum);
  rpc Chat(stream Note) returns (stream Note);
  rpc Missing(Note) returns (Note);
}
"""


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The generated package."""
    directory = tmp_path_factory.mktemp("generated")
    (directory / "sample.proto").write_text(_PROTO)
    binaries = Path(sys.executable).parent
    command = [
        *(sys.executable, "-m", "grpc_tools.protoc", f"-I{directory}", f"--python_betterproto2_out={directory}"),
        f"--plugin=protoc-gen-python_betterproto2={binaries}/protoc-gen-python_betterproto2",
        "--python_betterproto2_opt=client_generation=async,server_generation=async",
        f"{directory}/sample.proto",
    ]
    # The generator formats what it writes with the ruff beside it.
    environment = {**os.environ, "PATH": f"{binaries}:{os.environ['PATH']}"}
    subprocess.run(command, check=True, env=environment, timeout=120)
    # The generated modules use relative imports, so the output directory itself must be a package.
    sys.path.insert(0, str(directory.parent))
    try:
        yield importlib.import_module(f"{directory.name}.ttrpc_sample.v1")
    finally:
        sys.path.remove(str(directory.parent))


class BetterprotoCodec:
    """The codec of betterproto2's messages."""

    def encode(self, message: Any) -> bytes:
        return bytes(message)

    def decode(self, message_type: Any, data: bytes) -> Any:
        try:
            return message_type.parse(data)
        except Exception as exc:
            raise DecodeError(str(exc)) from exc


def service(sample: ModuleType) -> Any:
    """A service written as one writes it for gRPC."""

    class Service(sample.SampleBase):  # type: ignore[name-defined,misc]
        async def double(self, message: Any) -> Any:
            return sample.Note(text=message.text * 2, number=message.number * 2)

        async def split(self, message: Any) -> AsyncIterator[Any]:
            for letter in message.text:
                yield sample.Note(text=letter)
            if message.number:
                raise GRPCError(Status.OUT_OF_RANGE, "no more letters")

        async def add(self, messages: AsyncIterator[Any]) -> Any:
            return sample.Sum(total=sum([message.number async for message in messages]))

        async def chat(self, messages: AsyncIterator[Any]) -> AsyncIterator[Any]:
            async for message in messages:
                yield sample.Note(text=message.text.upper())

    return Service()


@pytest.fixture
async def stub(sample: ModuleType, socket_path: Path) -> AsyncIterator[Any]:
    """A stub of the served service."""
    async with Server([service(sample)], BetterprotoCodec()) as server:
        await server.listen(listener(socket_path))
        channel = await Channel.connect_unix(socket_path, BetterprotoCodec(), timeout=PATIENCE)
        yield sample.SampleStub(channel, timeout=PATIENCE)
        channel.close()
        await channel.wait_closed()
        await server.close(0)


async def test_unary_unary(sample: ModuleType, stub: Any) -> None:
    assert await stub.double(sample.Note(text="ab", number=2)) == sample.Note(text="abab", number=4)
    assert await stub.double(sample.Note()) == sample.Note()


async def test_unary_stream(sample: ModuleType, stub: Any) -> None:
    assert [note.text async for note in stub.split(sample.Note(text="abc"))] == ["a", "b", "c"]
    assert [note async for note in stub.split(sample.Note())] == []


async def test_stream_unary(sample: ModuleType, stub: Any) -> None:
    notes = [sample.Note(number=number) for number in range(300)]

    assert await stub.add(notes) == sample.Sum(total=sum(range(300)))
    assert await stub.add([]) == sample.Sum()


async def test_stream_stream(sample: ModuleType, stub: Any) -> None:
    replies: asyncio.Queue[str | None] = asyncio.Queue()

    async def questions() -> AsyncIterator[Any]:
        yield sample.Note(text="start")
        while (text := await replies.get()) is not None:
            yield sample.Note(text=text.lower() + "!")

    heard = []
    async for note in stub.chat(questions()):
        heard.append(note.text)
        replies.put_nowait(note.text if len(heard) < 4 else None)

    assert heard == ["START", "START!", "START!!", "START!!!"]


async def test_an_error_comes_after_the_messages_before_it(sample: ModuleType, stub: Any) -> None:
    stream = stub.split(sample.Note(text="a", number=1))

    assert (await anext(stream)).text == "a"
    with pytest.raises(GRPCError) as caught:
        await anext(stream)

    assert (caught.value.status, caught.value.message) == (Status.OUT_OF_RANGE, "no more letters")


async def test_a_method_that_the_service_does_not_write_is_unimplemented(sample: ModuleType, stub: Any) -> None:
    with pytest.raises(GRPCError) as caught:
        await stub.missing(sample.Note())

    assert caught.value.status is Status.UNIMPLEMENTED


async def test_a_stream_that_is_left_in_the_middle_frees_the_call(sample: ModuleType, stub: Any) -> None:
    stream = stub.split(sample.Note(text="x" * 50))
    await anext(stream)

    await stream.aclose()

    assert not stub.channel._connection.calls
    assert (await stub.double(sample.Note(text="a"))).text == "aa"
