"""A pod whose agent's connection is dropped again and again. Prints what was seen as one JSON object.

Argument: a scratch directory. To be run in a mount namespace of its own.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import sys
import time
from pathlib import Path

from agent_client.errors import AgentError
from tests.integration.agent.pod import PATIENCE, LivePod, Streams, live_pod

MIB = 1 << 20
#: How often the connection is dropped while a stream flows: fewer than the keeper takes for a hostile guest.
DROPS = 4


def digest(data: bytes | bytearray) -> str:
    """Short, for comparing."""
    return hashlib.sha256(data).hexdigest()[:16]


async def bulk(pod: LivePod, drops: int) -> dict[str, object]:
    """20 MiB through `cat` and back, with the connection dropped on the way."""
    data = os.urandom(20 * MIB)
    began = time.monotonic()
    exec_id, streams = await pod.begin("cat", stdin=data)
    marks = [len(data) * (number + 1) // (drops + 1) for number in range(drops)]

    def drop(length: int) -> None:
        if marks and length >= marks[0]:
            marks.pop(0)
            pod.drop()

    streams.on_output = drop
    status = await pod.end(exec_id)
    return {
        "status": status,
        "sent": digest(data),
        "received": digest(streams.stdout),
        "bytes": len(streams.stdout),
        "undropped": len(marks),
        "mib_s": round(20 / (time.monotonic() - began), 2),
    }


async def burst(pod: LivePod) -> dict[str, object]:
    """8 MiB by a process that exits as soon as it has written them."""
    status, output = await pod.run("sh", "-c", "head -c 8388608 /dev/zero | tr '\\0' x")
    return {"status": status, "bytes": len(output), "right": output == b"x" * (8 * MIB)}


async def grandchild(pod: LivePod) -> dict[str, object]:
    """Output of a grandchild, after the exit of its parent was told, with a dropped connection between."""
    exec_id, streams = await pod.begin("sh", "-c", "(sleep 6; echo late) & echo early")
    began = time.monotonic()
    status = await pod.end(exec_id)
    told = time.monotonic() - began
    early = bytes(streams.stdout).decode()
    pod.drop()
    async with asyncio.timeout(PATIENCE):
        await streams.closed.wait()
    return {"status": status, "told_s": round(told, 2), "early": early, "all": bytes(streams.stdout).decode()}


async def pending(pod: LivePod) -> dict[str, object]:
    """A plain call that waits when the connection goes, and the time until the next call is answered."""
    waiting = asyncio.ensure_future(pod.agent.wait_process("c1", ""))
    await pod.agent.check()
    began = time.monotonic()
    pod.drop()
    await pod.agent.check()
    seconds = time.monotonic() - began
    try:
        await waiting
    except AgentError as error:
        return {"lost": error.lost, "error": str(error), "restored_s": round(seconds, 3)}
    return {"lost": False}


async def oom(pod: LivePod) -> dict[str, object]:
    """A process that takes more memory than its container may have, after all those connections."""
    status, _ = await pod.run("python3", "-c", "x = bytearray(600 << 20)")
    async with asyncio.timeout(PATIENCE):
        while not (names := [type(event).__name__ for event in pod.events]).count("TaskOom"):
            await asyncio.sleep(0.05)
    return {"status": status, "events": names.count("TaskOom")}


async def vsock(pod: LivePod) -> dict[str, object]:
    """The agent reached from inside the guest through AF_VSOCK."""
    status, output = await pod.run("python3", "-m", "tests.integration.agent.vsock_probe", "vsock://1:1024")
    return {"status": status} | (json.loads(output) if status == 0 else {"output": output.decode(errors="replace")})


async def scenario(scratch: Path) -> dict[str, object]:
    """All of it, on one guest."""
    seen: dict[str, object] = {}
    async with live_pod(scratch) as pod:
        pid = pod.sandbox.vm_pid
        for name, step in (("vsock", vsock), ("burst", burst), ("pending", pending), ("grandchild", grandchild)):
            seen[name] = await step(pod)
        seen["bulk"] = await bulk(pod, 0)
        seen["bulk_dropped"] = await bulk(pod, DROPS)
        seen["oom"] = await oom(pod)
        init: Streams = await first(pod)
        seen["same_vm"] = pod.sandbox.vm_pid == pid and not init.closed.is_set()
    return seen


async def first(pod: LivePod) -> Streams:
    """The streams of the container's init."""
    init = pod.sandbox.containers["c1"].init
    assert isinstance(init.stdio, Streams)
    return init.stdio


def main() -> None:
    """Run it."""
    print(json.dumps(asyncio.run(scenario(Path(sys.argv[1])))))


if __name__ == "__main__":
    main()
