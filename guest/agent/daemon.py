"""The agent's life: set up, serve over every way in, until the sandbox is destroyed or something fails."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import time
from contextlib import AsyncExitStack

from guest.agent import boot, cmdline, kernel, serial, vsock
from guest.agent.agent import Agent
from guest.agent.cmdline import Options
from guest.agent.layout import Layout
from guest.agent.log import Console, log, set_up
from guest.agent.rpc_ports import PortsService
from guest.agent.service import AgentService, HealthService
from protos.codec import MessageCodec
from ttrpc.server import Server

#: Bytes that the agent keeps when it has freed them: an answer of output, in each of the forms it takes on its way.
KEPT_MEMORY = 6 << 20
#: Seconds that open calls may take to be answered when the machine ends.
CLOSE_SECONDS = 1.0
#: Seconds that hosts may take to fetch those answers. A virtio-serial port takes bytes long before the other side has
#: them, and loses them when the machine is switched off.
FAREWELL_SECONDS = 0.5


def run(is_init: bool) -> None:
    """Run the agent to its end; as the first process with the guest's file systems mounted before."""
    options = cmdline.read()
    console = set_up(options.log_level)
    kernel.keep_freed_memory(KEPT_MEMORY)
    if is_init:
        boot.bring_up_loopback()
    else:
        kernel.set_subreaper()
    asyncio.run(serve(options, console, Layout()))


async def serve(options: Options, console: Console, layout: Layout) -> None:
    """Serve until the agent is told to stop."""
    os.makedirs(layout.state, mode=0o700, exist_ok=True)
    async with AsyncExitStack() as stack:
        group = asyncio.TaskGroup()
        agent = Agent(group, layout, options, console)
        # Work that is still being finished when serving ends needs the agent's parts.
        stack.callback(agent.close)
        await stack.enter_async_context(group)
        agent.reaper.start()
        _stop_on_signals(agent)
        await _serve_until_stopped(agent, group)
    log.info("the sandbox is gone")


async def _serve_until_stopped(agent: Agent, group: asyncio.TaskGroup) -> None:
    ways: list[asyncio.Task[None]] = []
    try:
        services = [AgentService(agent), PortsService(agent), HealthService()]
        async with Server(services, MessageCodec(), require_same_user=False) as server:
            ways.append(group.create_task(serial.serve(server.protocol, agent.layout.sys)))
            ways.append(group.create_task(_serve_vsock(agent, server)))
            # What was imported lives for good: the collector need not look at it again.
            gc.freeze()
            gc.enable()
            log.info("ready after %.2f s of processor time", time.process_time())
            await agent.stopping.wait()
            await server.close(CLOSE_SECONDS, FAREWELL_SECONDS)
    finally:
        for way in ways:
            way.cancel()
        agent.work.end_background()


def _stop_on_signals(agent: Agent) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, agent.stopping.set)


async def _serve_vsock(agent: Agent, server: Server) -> None:
    """Serve vsock where there is a device, or where somebody loaded it; loading it for nothing costs boot time."""
    sys = agent.layout.sys
    await vsock.load_transport(agent.reaper, sys, loopback=agent.options.developer)
    if not (vsock.has_device(sys) or os.path.isdir(f"{sys}/module/vsock")):
        return
    sock = vsock.listen(agent.options.port)
    if sock is None:
        return
    allowed = {vsock.HOST_CID, vsock.LOCAL_CID} if agent.options.developer else {vsock.HOST_CID}
    with sock:
        await vsock.serve(sock, server.protocol, frozenset(allowed))
