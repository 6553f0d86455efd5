"""A pod whose agent's connection is dropped and stalled again and again. Prints what was seen as one JSON object.

All connections but the first go through a proxy between the client and QEMU's socket, which does that.

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

from agent_client.address import Serial, parse
from agent_client.errors import AgentError
from tests.integration.agent.pod import PATIENCE, LivePod, Streams, live_pod
from tests.integration.agent.proxy import Proxy, proxied

MIB = 1 << 20
#: How often the connection is dropped while a stream flows: fewer than the keeper takes for a hostile guest.
DROPS = 3


def digest(data: bytes | bytearray) -> str:
    """Short, for comparing."""
    return hashlib.sha256(data).hexdigest()[:16]


async def drop(pod: LivePod, proxy: Proxy) -> None:
    """Drop the connection, and see that this side knows: a call made before that is lost with it, and told so."""
    lost = asyncio.ensure_future(pod.agent.wait_closed())
    await asyncio.sleep(0)
    proxy.drop()
    await lost


async def bulk(pod: LivePod, proxy: Proxy, drops: int) -> dict[str, object]:
    """20 MiB through `cat` and back, with the connection dropped on the way."""
    data = os.urandom(20 * MIB)
    began = time.monotonic()
    exec_id, streams = await pod.begin("cat", stdin=data)
    marks = [len(data) * (number + 1) // (drops + 1) for number in range(drops)]

    def drop(length: int) -> None:
        if marks and length >= marks[0]:
            marks.pop(0)
            proxy.drop()

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


async def burst(pod: LivePod, proxy: Proxy) -> dict[str, object]:
    """8 MiB by a process that exits as soon as it has written them."""
    status, output = await pod.run("sh", "-c", "head -c 8388608 /dev/zero | tr '\\0' x")
    return {"status": status, "bytes": len(output), "right": output == b"x" * (8 * MIB)}


async def grandchild(pod: LivePod, proxy: Proxy) -> dict[str, object]:
    """Output of a grandchild that writes only after the exit of its parent was told and a connection was lost."""
    late = "(until [ -e /tmp/go ]; do sleep 0.1; done; echo late)"
    exec_id, streams = await pod.begin("sh", "-c", f"{late} & echo early")
    status = await pod.end(exec_id)
    early = bytes(streams.stdout).decode()
    await drop(pod, proxy)
    await pod.run("touch", "/tmp/go")
    async with asyncio.timeout(PATIENCE):
        await streams.closed.wait()
    return {"status": status, "early": early, "all": bytes(streams.stdout).decode()}


async def pending(pod: LivePod, proxy: Proxy) -> dict[str, object]:
    """A plain call that waits when the connection goes, and the time until the next call is answered."""
    waiting = asyncio.ensure_future(pod.agent.wait_process("c1", ""))
    await pod.agent.check()
    await drop(pod, proxy)
    began = time.monotonic()
    await pod.agent.check()
    seconds = time.monotonic() - began
    try:
        await waiting
    except AgentError as error:
        return {"lost": error.lost, "error": str(error), "restored_s": round(seconds, 3)}
    return {"lost": False}


async def oom(pod: LivePod, proxy: Proxy) -> dict[str, object]:
    """A process that takes more memory than its container may have, after all those connections."""
    status, _ = await pod.run("python3", "-c", "x = bytearray(600 << 20)")
    async with asyncio.timeout(PATIENCE):
        while not (names := [type(event).__name__ for event in pod.events]).count("TaskOom"):
            await asyncio.sleep(0.05)
    return {"status": status, "events": names.count("TaskOom")}


async def vsock(pod: LivePod, proxy: Proxy) -> dict[str, object]:
    """The agent reached from inside the guest through AF_VSOCK."""
    status, output = await pod.run("python3", "-m", "tests.integration.agent.vsock_probe", "vsock://1:1024")
    return {"status": status} | (json.loads(output) if status == 0 else {"output": output.decode(errors="replace")})


async def stalled(pod: LivePod, proxy: Proxy) -> dict[str, object]:
    """A connection that carries nothing for a while: its calls wait, and go on or end with it when it is dropped."""
    proxy.stall()
    waiting = [asyncio.ensure_future(pod.agent.check()) for _ in range(2)]
    exec_id, streams = "", None
    starting = asyncio.ensure_future(pod.begin("sh", "-c", "echo through; exit 3"))
    done, _ = await asyncio.wait([*waiting, starting], timeout=0.5)
    proxy.flow()
    async with asyncio.timeout(PATIENCE):
        await asyncio.gather(*waiting)
        exec_id, streams = await starting
    status = await pod.end(exec_id)
    return {"early": len(done), "status": status, "output": bytes(streams.stdout).decode()}


async def execs(pod: LivePod, proxy: Proxy) -> dict[str, object]:
    """Execs that wait when the connection goes: each ends with its own status, and all of its output."""
    begun = [await pod.begin("sh", "-c", f"read x; echo $x-{n}; exit {n}", stdin=b"line\n") for n in range(3)]
    slow = [await pod.begin("sh", "-c", f"sleep 2; echo slow-{n}; exit 1{n}") for n in range(3)]
    await drop(pod, proxy)
    statuses = [await pod.end(exec_id) for exec_id, _ in (*begun, *slow)]
    return {"statuses": statuses, "outputs": [bytes(streams.stdout).decode() for _, streams in (*begun, *slow)]}


async def through(pod: LivePod, proxy: Proxy, front: Path) -> None:
    """From now on the pod's connection goes through the proxy."""
    agent = pod.agent
    agent.url = f"serial://{front}"
    agent.line.channel.close()
    async with asyncio.timeout(PATIENCE):
        await agent.check()
    assert proxy.connections == 1


async def scenario(scratch: Path) -> dict[str, object]:
    """All of it, on one guest."""
    seen: dict[str, object] = {}
    steps = (vsock, burst, pending, stalled, execs, grandchild)
    async with live_pod(scratch) as pod:
        pid = pod.sandbox.pod.vm_pid
        where = parse(pod.agent.url)
        assert isinstance(where, Serial)
        front = scratch / "proxy"
        async with proxied(front, Path(where.path)) as proxy:
            await through(pod, proxy, front)
            for step in steps:
                seen[step.__name__] = await step(pod, proxy)
            seen["bulk"] = await bulk(pod, proxy, 0)
            seen["bulk_dropped"] = await bulk(pod, proxy, DROPS)
            seen["oom"] = await oom(pod, proxy)
            init: Streams = await first(pod)
            seen["same_vm"] = pod.sandbox.pod.vm_pid == pid and not init.closed.is_set()
            seen["connections"] = proxy.connections
    return seen


async def first(pod: LivePod) -> Streams:
    """The streams of the container's init."""
    init = pod.sandbox.pod.containers["c1"].init
    assert isinstance(init.stdio, Streams)
    return init.stdio


def main() -> None:
    """Run it."""
    print(json.dumps(asyncio.run(scenario(Path(sys.argv[1])))))


if __name__ == "__main__":
    main()
