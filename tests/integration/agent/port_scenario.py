"""A guest whose virtio-serial port is abused from the host. Prints what was seen as one JSON object.

Each abuse breaks off a session in some ugly way; after each the agent must answer a client that does it right.
Argument: a scratch directory.
"""

from __future__ import annotations

import asyncio
import json
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path

from agent_client.address import Serial, parse
from agent_client.client import AgentClient
from agent_client.errors import AgentError
from agent_client.handshake import SerialHandshake
from hypervisor.qemu import QemuVm
from hypervisor.vm import VmSpec
from tests.integration.agent.hybrid import hybrid
from tests.integration.agent.pod import guest_settings

#: Seconds for the guest to boot, and for each connection.
BOOT, PATIENCE = 60.0, 20.0
MIB = 1 << 20
#: Where Kata's agent listens.
AGENT_PORT = 1024
SHARED = "/run/kata-containers/shared/containers"

_HEALTH_CHECK = bytes.fromhex("00000014000000010100") + b"\x0a\x0bgrpc.Health\x12\x05Check"


def begin(sock: socket.socket) -> None:
    """The handshake, done right."""
    handshake = SerialHandshake()
    sock.sendall(handshake.greeting)
    while not handshake.feed(sock.recv(65536)):
        pass


def silence(sock: socket.socket) -> None:
    """Connect and say nothing."""


def half_a_preamble(sock: socket.socket) -> None:
    """Break off within the first line."""
    sock.sendall(SerialHandshake().greeting[:40])


def noise(sock: socket.socket) -> None:
    """Five mebibytes that are no preamble."""
    sock.sendall(b"\0KATA-AGENT 1 \n" * (5 * MIB // 15))


def half_a_header(sock: socket.socket) -> None:
    """Break off within a frame's header."""
    begin(sock)
    sock.sendall(b"\0\0\1")


def half_a_payload(sock: socket.socket) -> None:
    """Promise 4 MiB, send one, break off."""
    begin(sock)
    sock.sendall((4 * MIB).to_bytes(4, "big") + b"\0\0\0\1\1\0" + bytes(MIB))


def four_gigabytes(sock: socket.socket) -> None:
    """Promise all that a length can say."""
    begin(sock)
    sock.sendall(b"\xff\xff\xff\xff\0\0\0\1\1\0" + bytes(MIB))


def even_and_repeated_ids(sock: socket.socket) -> None:
    """Frames that no client sends; the agent answers them, and goes on."""
    begin(sock)
    for stream_id in (2, 3, 3, 1, 4):
        sock.sendall(_HEALTH_CHECK[:4] + stream_id.to_bytes(4, "big") + _HEALTH_CHECK[8:])
    sock.recv(65536)


def answers_that_nobody_reads(sock: socket.socket) -> None:
    """Thousands of calls, whose answers fill the port; the agent stops reading, and must see the end."""
    begin(sock)
    sock.settimeout(3)
    try:
        for number in range(40_000):
            sock.sendall(_HEALTH_CHECK[:4] + (2 * number + 1).to_bytes(4, "big") + _HEALTH_CHECK[8:])
    except TimeoutError:
        pass


def a_second_host_unannounced(sock: socket.socket) -> None:
    """A new preamble in the middle of a frame, on the same connection."""
    half_a_payload(sock)
    begin(sock)
    sock.sendall(_HEALTH_CHECK)
    sock.recv(65536)


ABUSES: tuple[Callable[[socket.socket], None], ...] = (
    silence,
    half_a_preamble,
    noise,
    half_a_header,
    half_a_payload,
    four_gigabytes,
    even_and_repeated_ids,
    answers_that_nobody_reads,
    a_second_host_unannounced,
)


def abuse(path: str, how: Callable[[socket.socket], None]) -> None:
    """Do it on a connection of its own."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(PATIENCE)
        sock.connect(path)
        how(sock)


async def scenario(scratch: Path) -> dict[str, object]:
    """Boot, abuse, ask."""
    hypervisor = guest_settings().hypervisor
    vm = QemuVm(
        VmSpec(
            name="port",
            run_dir=scratch,
            qemu=hypervisor.path,
            kernel=hypervisor.kernel,
            initrd=hypervisor.initrd,
            image=hypervisor.image,
            vcpus=1,
            memory_mib=512,
            accelerator="tcg",
            kernel_params=tuple(hypervisor.kernel_params.split()),
        )
    )
    seen: dict[str, object] = {}
    try:
        await vm.start(BOOT)
        client = await AgentClient.connect(vm.agent_url, timeout=BOOT)
        before = await memory(client)
        client.close()
        where = parse(vm.agent_url)
        assert isinstance(where, Serial)
        for how in ABUSES:
            await asyncio.to_thread(abuse, where.path, how)
            began = time.monotonic()
            client = await AgentClient.connect(vm.agent_url, timeout=PATIENCE)
            seen[how.__name__] = round(time.monotonic() - began, 3)
            client.close()
        client = await AgentClient.connect(vm.agent_url, timeout=PATIENCE)
        seen["agent_grew_kib"] = await memory(client) - before
        client.close()
        seen["hybrid"] = await through_hybrid_vsock(scratch / "hybrid", where)
    finally:
        vm.kill()
        seen["console"] = vm.diagnostics().console_tail[-2000:]
        await vm.wait()
    return seen


async def through_hybrid_vsock(front: Path, guest: Serial) -> dict[str, object]:
    """The agent reached by hvsock, a mebibyte sent to it, the connection lost and made again, and a port of nobody."""
    async with hybrid(front, guest, AGENT_PORT, PATIENCE) as back_end:
        client = await AgentClient.connect(f"hvsock://{front}:{AGENT_PORT}", timeout=PATIENCE)
        seen: dict[str, object] = {"version": all(await client.version()), "positions": client.knows_positions}
        path, data = f"{SHARED}/hybrid", bytes(MIB)
        await client.storage.copy_file(
            path=path, file_size=MIB, file_mode=0o100644, dir_mode=0o755, uid=0, gid=0, offset=0, data=data
        )
        back_end.drop()
        async with asyncio.timeout(PATIENCE):
            await client.wait_closed()
        await client.reconnect(timeout=PATIENCE)
        await client.check()
        seen |= {"positions_again": client.knows_positions, "connections": back_end.connections}
        client.close()
        try:
            await AgentClient.connect(f"hvsock://{front}:{AGENT_PORT - 1}", timeout=0.5)
        except AgentError as error:
            seen["refused"] = str(error)
    return seen


async def memory(client: AgentClient) -> int:
    """The agent's resident memory in KiB, from its metrics."""
    for line in (await client.upkeep.get_metrics()).splitlines():
        if line.startswith('kata_agent_proc_status{item="vmrss"} '):
            return int(float(line.split()[1])) // 1024
    raise AssertionError("the agent's metrics lack its memory")


def main() -> None:
    """Run it."""
    print(json.dumps(asyncio.run(scenario(Path(sys.argv[1])))))


if __name__ == "__main__":
    main()
