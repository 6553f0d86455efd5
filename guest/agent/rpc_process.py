"""RPCs on processes and their streams; see Kata's agent.proto for the messages.

An empty `exec_id`, or the container's own id, means the init.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from guest.agent import names
from guest.agent.errors import InvalidArgumentError
from guest.agent.rpc_base import AgentRpcs
from guest.agent.rpc_container import refuse_ports, refuse_string_user
from protos.lean.gen.grpc import (
    CloseStdinRequest,
    ExecProcessRequest,
    ReadStreamRequest,
    ReadStreamResponse,
    SignalProcessRequest,
    TtyWinResizeRequest,
    WaitProcessRequest,
    WaitProcessResponse,
    WriteStreamRequest,
    WriteStreamResponse,
)
from protos.lean.gen.wellknown import Empty

if TYPE_CHECKING:
    from guest.agent.process import Process
    from guest.agent.streams import OutputStream
    from ttrpc.piped import PipedMessage


class ProcessRpcs(AgentRpcs):
    """Exec, signal, wait, streams, terminal."""

    def _process(self, container_id: str, exec_id: str) -> Process:
        return self.agent.containers.process(names.container_id(container_id), names.exec_id(exec_id))

    async def exec_process(self, message: ExecProcessRequest) -> Empty:
        """Run a further process at once."""
        container_id, exec_id = names.container_id(message.container_id), names.exec_id(message.exec_id)
        refuse_ports(message.stdin_port, message.stdout_port, message.stderr_port)
        refuse_string_user(message.string_user)
        await self.agent.work.finish(self.agent.containers.exec(container_id, exec_id, message.process))
        return Empty()

    async def signal_process(self, message: SignalProcessRequest) -> Empty:
        """Send a signal; SIGKILL with an empty exec id goes to every process of the container."""
        container_id, exec_id = names.container_id(message.container_id), names.exec_id(message.exec_id)
        self.agent.containers.signal(container_id, exec_id, message.signal)
        return Empty()

    async def wait_process(self, message: WaitProcessRequest) -> WaitProcessResponse:
        """Wait for the exit; the status is the shell's (128 plus the signal)."""
        return WaitProcessResponse(status=await self._process(message.container_id, message.exec_id).wait())

    async def write_stdin(self, message: WriteStreamRequest) -> WriteStreamResponse:
        """Write all of the data; none at all closes the stream, as Kata's runtime-rs does it.

        `position` is this runtime's own: see `streams`.
        """
        stdin = self._process(message.container_id, message.exec_id).streams.stdin
        if not message.data:
            stdin.end()
            return WriteStreamResponse(len=0)
        return WriteStreamResponse(len=await stdin.write(message.data, message.position))

    async def close_stdin(self, message: CloseStdinRequest) -> Empty:
        """Close standard input."""
        self._process(message.container_id, message.exec_id).streams.stdin.end()
        return Empty()

    async def read_stdout(self, message: ReadStreamRequest) -> Any:
        """Wait for output; empty data is the end. Much of it comes as a `PipedMessage`, the same response."""
        return await _read(self._process(message.container_id, message.exec_id).streams.stdout, message)

    async def read_stderr(self, message: ReadStreamRequest) -> Any:
        """As `read_stdout`; with a terminal the end comes at once."""
        return await _read(self._process(message.container_id, message.exec_id).streams.stderr, message)

    async def tty_win_resize(self, message: TtyWinResizeRequest) -> Empty:
        """Set the terminal's size in characters."""
        self._process(message.container_id, message.exec_id).resize(message.row, message.column)
        return Empty()


async def _read(stream: OutputStream | None, message: ReadStreamRequest) -> ReadStreamResponse | PipedMessage:
    if message.len == 0:
        raise InvalidArgumentError("a read of 0 bytes would look like the end of the stream")
    if stream is None:
        return ReadStreamResponse()
    data = await stream.read(message.len, message.position)
    return ReadStreamResponse(data=data) if isinstance(data, bytes) else data
