"""Keeps a client connected: makes a lost connection again, a bounded number of times in bounded time.

A connection may go while the machine behind it lives: a vsock is reset when its machine is restored from a snapshot, a
back end of hybrid vsock is restarted, a port's host side is closed. A guest that drops it again and again, or takes no
other, is given up.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque

from agent_client.client import AgentClient
from agent_client.errors import AgentError

#: Seconds that a new connection may take, and that calls wait for it meanwhile. A guest answers within a few
#: milliseconds; one that has no processor to itself may need seconds, and is not to lose its containers for it.
RECONNECT_TIMEOUT = 15.0
#: The first attempt gets this many seconds, each further one twice as many: what a port took from one host and lost
#: is said again by the next.
_FIRST_ATTEMPT = 2.0
#: A connection that is lost this often within so many seconds is not made again.
LOSSES_MAX = 8
LOSSES_SECONDS = 60.0
#: Seconds between two attempts: a socket whose owner died refuses at once.
_PAUSE = 0.1

_log = logging.getLogger(__name__)


async def keep_connected(client: AgentClient) -> str:
    """Make the client's connection again whenever it is lost, until it can't be or is closed; why, on one line.

    While this runs calls wait for a lost connection in place of failing.
    """
    client.line.patience = RECONNECT_TIMEOUT
    losses: deque[float] = deque(maxlen=LOSSES_MAX)
    try:
        while True:
            cause = await client.line.lost()
            if client.line.is_closed:
                return "the connection to the agent was closed"
            losses.append(time.monotonic())
            if len(losses) == LOSSES_MAX and losses[-1] - losses[0] < LOSSES_SECONDS:
                return f"the connection to the agent was lost {LOSSES_MAX} times in {LOSSES_SECONDS:g} s: {cause}"
            try:
                await _reconnect(client)
            except AgentError as error:
                return f"the connection to the agent was lost ({cause}) and can't be made again: {error.message}"
            took = time.monotonic() - losses[-1]
            _log.warning("the connection to the agent was lost (%s), and made again after %.3f s", cause, took)
    finally:
        client.line.patience = 0.0


async def _reconnect(client: AgentClient) -> None:
    end, attempt = time.monotonic() + RECONNECT_TIMEOUT, _FIRST_ATTEMPT
    while True:
        left = max(0.0, end - time.monotonic())
        try:
            await client.reconnect(timeout=min(attempt, left))
        except AgentError:
            if time.monotonic() + _PAUSE >= end:
                raise
            await asyncio.sleep(_PAUSE)
            attempt *= 2
        else:
            return
