"""Moves a process' streams between the guest and the host's end, one call at a time, never faster than the reader."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable

import anyio
from grpclib.const import Status

from agent_client.client import AgentClient
from agent_client.errors import AgentError
from agent_client.streams import Input, Output
from sandbox.interface import Stdio

#: Most bytes of output asked for per call, well below ttrpc's 4 MiB: what an output's pipe holds in our guest. An agent
#: answers with what there is.
READ = 1 << 20
#: Bytes asked for at first, and whenever the reader on the host took the last ones slowly: what it has not taken is
#: held here, for each stream. Twice as much after each full answer that it took at once.
READ_LEAST = 64 * 1024
#: Seconds within which a reader takes an answer that is not slow.
SWIFT = 0.25
#: Bytes handed on at a time, either way: a pipe's half.
CHUNK = 32 * 1024
#: After the process' exit: how long the guest may stay silent before its output counts as complete, in seconds. A
#: grandchild that keeps the pipe open must not hold back the exit; what it writes later is still delivered.
QUIET = 1.0
#: After the process' exit: how long a reader on the host may refuse to read, in seconds (runc's shim waits as long).
STUCK = 10.0

#: After the process' exit: how much may still come before it must be a descendant's, in bytes: twice what a pipe can
#: hold. Who writes for ever must not hold back the exit either.
LEFT_BEHIND = 2 << 20

#: An empty answer that came sooner than this is the end of the stream and not a pause, in seconds.
PROMPT = 0.25

_log = logging.getLogger(__name__)


class OutputPump:
    """One output stream, guest to host. Lives from the start of the process until its end of file, or its deletion."""

    def __init__(
        self,
        read: Callable[[int], Awaitable[bytes]],
        write: Callable[[bytes], Awaitable[None]],
        *,
        tells_silence: bool = True,
    ) -> None:
        """`tells_silence`: the agent also answers empty when it is not the end (see `_next`)."""
        self._read = read
        self._write = write
        self._tells_silence = tells_silence
        self._done = anyio.Event()
        #: Nobody has to wait for the rest: there is none, or it is a descendant's.
        self._settled = anyio.Event()
        self._since = time.monotonic()
        self._patience = QUIET
        self._moved = 0
        #: How much may be moved until what follows must be a descendant's; none as long as the process lives.
        self._enough: int | None = None
        #: How much to ask for.
        self._appetite = READ_LEAST

    @property
    def is_done(self) -> bool:
        """Whether everything is delivered and no more can come."""
        return self._done.is_set()

    async def ended(self) -> None:
        """Return when everything is delivered and no more can come."""
        await self._done.wait()

    async def run(self) -> None:
        """Pump until end of file, a lost guest, or cancellation."""
        try:
            while data := await self._next():
                began = time.monotonic()
                await self._deliver(data)
                self._learn(len(data), time.monotonic() - began)
        except AgentError as error:
            _log.debug("output stream ended: %s", error)
        finally:
            self._done.set()
            self._settled.set()

    async def _deliver(self, data: bytes) -> None:
        """Hand it on; a reader that is slow, and reads, shows by each piece that it is not stuck."""
        for start in range(0, len(data), CHUNK):
            piece = data[start : start + CHUNK]
            self._turn(STUCK)
            await self._write(piece)
            self._moved += len(piece)
            if self._enough is not None and self._moved >= self._enough:
                self._settled.set()

    def _learn(self, size: int, took: float) -> None:
        """How much to ask for after an answer of `size` bytes that the reader took `took` seconds for."""
        if took > SWIFT:
            self._appetite = READ_LEAST
        elif size >= self._appetite:
            self._appetite = min(2 * self._appetite, READ)

    async def _next(self) -> bytes:
        """The next output; empty at the end.

        After the exit of the process our agent also answers empty when a descendant that has the stream is quiet
        for a while. That answer took its time; the true end is told at once when it is asked for again.
        """
        self._turn(QUIET)
        while True:
            asked = time.monotonic()
            data = await self._read(self._appetite)
            if data or not self._tells_silence or time.monotonic() - asked < PROMPT:
                return data

    def _turn(self, patience: float) -> None:
        self._since = time.monotonic()
        self._patience = patience

    async def drained(self) -> None:
        """Called after the exit: return when all output is delivered, or nobody can wait for it any longer."""
        called = time.monotonic()
        if self._enough is None:
            self._enough = self._moved + LEFT_BEHIND
        while not self._settled.is_set():
            left = max(self._since, called) + self._patience - time.monotonic()
            if left <= 0:
                return
            with anyio.move_on_after(left):
                await self._settled.wait()


def output_pumps(agent: AgentClient, container_id: str, exec_id: str, stdio: Stdio, terminal: bool) -> list[OutputPump]:
    """The pumps of a process; a terminal has one output only."""
    tells = agent.knows_positions
    pumps = [OutputPump(Output(agent, container_id, exec_id).read, stdio.write_stdout, tells_silence=tells)]
    if not terminal:
        stderr = Output(agent, container_id, exec_id, is_stderr=True)
        pumps.append(OutputPump(stderr.read, stdio.write_stderr, tells_silence=tells))
    return pumps


async def pump_stdin(agent: AgentClient, container_id: str, exec_id: str, stdio: Stdio, terminal: bool) -> None:
    """Feed standard input until its end, then close it in the guest; ends quietly when the process is gone.

    A terminal stays open: it has one descriptor for both ways, and Kata's agent would hang it up.
    """
    guest = Input(agent, container_id, exec_id)
    try:
        await _feed(guest, stdio)
        if not terminal:
            await guest.close()
    except AgentError as error:
        _log.debug("standard input of %s/%s ended: %s", container_id, exec_id, error)


async def _feed(guest: Input, stdio: Stdio) -> None:
    try:
        while stdio.has_stdin and (data := await stdio.read_stdin(CHUNK)):
            await guest.write(data)
    except AgentError as error:
        if error.code is not Status.DATA_LOSS:
            raise
        # Neither a gap nor a repetition in the input would be seen by the process; its end is.
        _log.error("standard input ends early: %s", error)
