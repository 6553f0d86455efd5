"""Runs inside the guest: reaches the agent through AF_VSOCK, by the guest's loopback, on both event loops.

Prints one JSON object: for each loop what Health.Check and Version answered, and seconds per call.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time

import uvloop

from agent_client.client import AgentClient
from agent_client.errors import AgentError

CALLS = 20


async def probe(url: str) -> dict[str, object]:
    """Connect, ask, measure; also a port that nobody listens on."""
    client = await AgentClient.connect(url, timeout=30)
    version = await client.version()
    began = time.monotonic()
    for _ in range(CALLS):
        await client.check()
    seconds = (time.monotonic() - began) / CALLS
    metrics = await client.upkeep.get_metrics()
    client.close()
    await client.wait_closed()
    try:
        await AgentClient.connect(f"{url.rpartition(':')[0]}:1023", timeout=0.5)
    except AgentError as error:
        refused = str(error)
    return {"version": version, "seconds": round(seconds, 4), "metrics": len(metrics), "refused": refused}


def main() -> None:
    """Probe on asyncio, then on uvloop."""
    url = sys.argv[1]
    print(json.dumps({"asyncio": asyncio.run(probe(url)), "uvloop": uvloop.run(probe(url))}))


if __name__ == "__main__":
    main()
