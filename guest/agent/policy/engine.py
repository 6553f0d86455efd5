"""The policy engine's process, as the agent sees it: started with a policy, asked, ended. See `worker` for its words.

An engine that ends, is late or answers nonsense is not used again: every later question fails as well, and who asks
denies. The agent's own process never runs the engine's code.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
from collections.abc import Iterable
from typing import Any

from guest.agent import spawn
from guest.agent.errors import one_line
from guest.agent.reaper import Reaper

#: Seconds; the interpreter and the engine start first, which takes a while where the guest is emulated.
LOAD_TIMEOUT = 40.0
ANSWER_TIMEOUT = 20.0
PACKAGE = "regopy"
_HEADER = 4
_MESSAGE_LIMIT = 1 << 26


class EngineError(Exception):
    """The engine refuses, has ended or does not answer; one line."""


class NoEngineError(EngineError):
    """This guest has no policy engine."""


def home() -> str:
    """The directory that holds the engine's package; empty if the guest has none."""
    return next((path for path in sys.path if path and os.path.isdir(f"{path}/{PACKAGE}")), "")


class Engine:
    """One policy in a process of its own. `await Engine.start(...)`, any number of questions, `close`."""

    def __init__(self, pid: int, ended: asyncio.Future[int], sock: socket.socket) -> None:
        self._pid = pid
        self._ended = ended
        self._socket = sock
        self._turn = asyncio.Lock()
        self._failed = ""

    @property
    def failed(self) -> bool:
        """Whether it is of no use any more."""
        return bool(self._failed)

    @classmethod
    async def start(cls, text: str, rules: Iterable[str], data: dict[str, Any], reaper: Reaper) -> Engine:
        """A process that has loaded the policy `text` for `rules`; raises `EngineError` if it does not want to."""
        directory = home()
        if not directory:
            raise NoEngineError("this guest has no policy engine")
        ours, theirs = socket.socketpair()
        try:
            ours.setblocking(False)
            arguments = [sys.executable, "-I", "-S", "-B", _worker(), directory]
            pid = spawn.start(arguments, (theirs.fileno(), None, None))
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        engine = cls(pid, reaper.watch(pid), ours)
        try:
            await engine._ask({"load": text, "rules": list(rules), "data": data}, LOAD_TIMEOUT)
        except BaseException:
            engine.close()
            raise
        return engine

    async def set_data(self, data: dict[str, Any]) -> None:
        """Let the rules see `data` from now on."""
        await self._ask({"data": data}, LOAD_TIMEOUT)

    async def evaluate(self, rule: str, document: dict[str, Any]) -> Any:
        """The rule's value; None if it has none."""
        return (await self._ask({"rule": rule, "input": document}, ANSWER_TIMEOUT)).get("value")

    def close(self) -> None:
        """End the process; idempotent."""
        self._failed = "the policy engine has been closed"
        self._socket.close()
        if not self._ended.done():
            os.kill(self._pid, signal.SIGKILL)

    async def _ask(self, request: dict[str, Any], timeout: float) -> dict[str, Any]:
        async with self._turn:
            if self._failed:
                raise EngineError(self._failed)
            # Whatever interrupts the exchange, a cancellation too, leaves it half done.
            self._failed = "the policy engine was interrupted"
            try:
                reply = await asyncio.wait_for(self._exchange(request), timeout)
            except TimeoutError as error:
                self._failed = f"the policy engine did not answer within {timeout:g} s"
                raise EngineError(self._failed) from error
            except (OSError, EOFError, TypeError, ValueError) as error:
                self._failed = "the policy engine has ended"
                raise EngineError(self._failed) from error
            self._failed = ""
        if "error" in reply:
            raise EngineError(one_line(str(reply["error"]), 500))
        return reply

    async def _exchange(self, request: dict[str, Any]) -> dict[str, Any]:
        data = json.dumps(request).encode()
        await asyncio.get_running_loop().sock_sendall(self._socket, len(data).to_bytes(_HEADER, "big") + data)
        size = int.from_bytes(await self._receive(_HEADER), "big")
        if size > _MESSAGE_LIMIT:
            raise ValueError(f"a reply of {size} bytes")
        return dict(json.loads(await self._receive(size)))

    async def _receive(self, size: int) -> bytes:
        data = bytearray()
        while len(data) < size:
            piece = await asyncio.get_running_loop().sock_recv(self._socket, size - len(data))
            if not piece:
                raise EOFError
            data += piece
        return bytes(data)


def _worker() -> str:
    """The worker's file; the image has the bytecode alone."""
    source = os.path.join(os.path.dirname(__file__), "worker.py")
    return source if os.path.exists(source) else source + "c"
