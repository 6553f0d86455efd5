"""The streams of one process in the guest, from the first byte to the last, over however many connections.

A call that was lost may have taken effect: output may have been answered and not received, input taken and not
acknowledged. So every call says where this side stands, and an agent that knows positions (our own) gives its last
answer again, and takes input once. With one that does not (a stock agent) output goes on where the agent is, with a
warning in the log, and input ends with an error: what was under way can't be told from what was lost.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

from grpclib.const import Status

from agent_client.client import AgentClient
from agent_client.errors import AgentError

T = TypeVar("T")

_log = logging.getLogger(__name__)


async def repeated(client: AgentClient, call: Callable[[], Awaitable[T]]) -> T:
    """The answer to a call that may be made twice; again on the next connection if one is lost.

    Raises `AgentError`; its `lost` then says that there is no next connection.
    """
    while True:
        try:
            return await call()
        except AgentError as error:
            if not error.lost or not await client.restored():
                raise


class Output:
    """Standard output or error of a process. One reader."""

    def __init__(self, client: AgentClient, container_id: str, exec_id: str, *, is_stderr: bool = False) -> None:
        self._client = client
        self._ids = (container_id, exec_id)
        self._name = "stderr" if is_stderr else "stdout"
        self._call = client.read_stderr if is_stderr else client.read_stdout
        self._position = 0

    async def read(self, length: int) -> bytes:
        """Wait for output, at most `length` bytes of it; empty at its end. Raises `AgentError`."""
        while True:
            try:
                data = await self._call(*self._ids, length, position=self._position)
            except AgentError as error:
                if not error.lost or not await self._client.restored():
                    raise
                self._warn(length)
            else:
                self._position += len(data)
                return data

    def _warn(self, length: int) -> None:
        if not self._client.knows_positions:
            what = f"{self._name} of {'/'.join(self._ids)}"
            _log.warning("up to %d bytes of %s after %d are missing", length, what, self._position)


class Input:
    """Standard input of a process. One writer."""

    def __init__(self, client: AgentClient, container_id: str, exec_id: str) -> None:
        self._client = client
        self._ids = (container_id, exec_id)
        self._position = 0

    async def write(self, data: bytes) -> None:
        """Write all of `data`, however long the process takes to read it. Raises `AgentError`."""
        while data:
            try:
                taken = await self._client.write_stdin(*self._ids, data, position=self._position, timeout=None)
            except AgentError as error:
                if not error.lost or not await self._client.restored():
                    raise
                if not self._client.knows_positions:
                    raise self._unknown(len(data)) from error
            else:
                self._position += taken
                data = data[taken:]

    async def close(self) -> None:
        """End the input. Raises `AgentError`."""
        await repeated(self._client, lambda: self._client.close_stdin(*self._ids))

    def _unknown(self, length: int) -> AgentError:
        text = (
            f"the connection was lost, and the agent can't say which of {length} bytes after {self._position} it took"
        )
        return AgentError("WriteStdin", Status.DATA_LOSS, text)
