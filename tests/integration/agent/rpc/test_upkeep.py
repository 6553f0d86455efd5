"""The RPCs on a live guest as a machine: packet filters, hooks, clock, random numbers, diagnosis, files, streams."""

from __future__ import annotations

import asyncio
import json
import stat
import time

import pytest
from grpclib.const import Status

from agent_client.errors import AgentError
from protos.gen import grpc as pb
from tests.harness.live_guest import ENV, ROOTFS, SHARED, STANDING, Live, process, spec

pytestmark = [pytest.mark.integration, pytest.mark.anyio]

MIB = 1 << 20


async def refusal(call) -> AgentError:
    """The error of a call that must fail."""
    with pytest.raises(AgentError) as caught:
        await call
    return caught.value


# Packet filters


@pytest.mark.parametrize(("is_ipv6", "address"), [(False, "10.1.2.3/32"), (True, "fd00::1/128")])
async def test_packet_filters_are_set_whole_and_read_back(guest: Live, is_ipv6: bool, address: str):
    rules = f"*filter\n:INPUT ACCEPT [0:0]\n-A INPUT -s {address} -j DROP\nCOMMIT\n"

    await guest.agent.network.set_ip_tables(rules.encode(), is_ipv6=is_ipv6)
    saved = (await guest.agent.network.get_ip_tables(is_ipv6=is_ipv6)).decode()
    await guest.agent.network.set_ip_tables(b"*filter\n:INPUT ACCEPT [0:0]\nCOMMIT\n", is_ipv6=is_ipv6)

    assert f"-A INPUT -s {address} -j DROP" in saved
    assert address not in (await guest.agent.network.get_ip_tables(is_ipv6=is_ipv6)).decode()


async def test_rules_that_make_no_sense_are_refused_and_change_nothing(guest: Live):
    before = await guest.agent.network.get_ip_tables(is_ipv6=False)

    error = await refusal(guest.agent.network.set_ip_tables(b"*filter\n-A NOWHERE -j ACCEPT\nCOMMIT\n"))

    assert error.code in {Status.INVALID_ARGUMENT, Status.INTERNAL}
    assert "iptables-restore" in error.message
    strip = (line for line in before.decode().splitlines() if not line.startswith("#"))
    after = (await guest.agent.network.get_ip_tables(is_ipv6=False)).decode().splitlines()
    assert list(strip) == [line for line in after if not line.startswith("#")]


# Hooks


async def test_hooks_run_around_a_container_with_its_state_and_the_spec_written_for_them(guest: Live):
    name = guest.name()
    await guest.agent.create_container(
        container_id=name, oci=spec(process("true", "marked"), annotations={"hook.keep": name})
    )
    await guest.agent.start_container(name)
    await guest.agent.wait_process(name, "")
    await guest.agent.remove_container(name)

    told = [json.loads(line) for line in (await guest.sh(f"cat /tmp/{name}")).splitlines()]

    assert [state["status"] for state in told] == ["created", "running", "stopped"]
    assert [state["arguments"] for state in told] == [["prestart"], ["poststart"], ["poststop"]]
    assert {state["id"] for state in told} == {name}
    assert all(state["args"] == ["true", "marked"] for state in told)


async def test_a_hook_that_fails_is_the_containers_failure_and_nothing_is_left_of_it(guest: Live):
    name = guest.name()
    failing = spec(process("true"), annotations={"hook.fail": "prestart"})

    error = await refusal(guest.agent.create_container(container_id=name, oci=failing))

    assert error.code is Status.INTERNAL
    assert "prestart hook" in error.message
    assert "told to fail" in error.message
    assert (await refusal(guest.agent.stats_container(name))).code is Status.NOT_FOUND
    await guest.agent.create_container(container_id=name, oci=spec(process("true")))
    await guest.agent.remove_container(name)


# What makes the guest itself


async def test_the_clock_is_set_to_the_microsecond(guest: Live):
    wanted = 2_000_000_000
    try:
        await guest.agent.set_guest_date_time(wanted * 10**9 + 5_000)
        seen = int(await guest.sh("date +%s"))
    finally:
        await guest.agent.set_guest_date_time(time.time_ns())

    assert wanted <= seen < wanted + 60
    assert abs(int(await guest.sh("date +%s")) - time.time()) < 60


async def test_a_seed_is_taken_and_none_is_refused(guest: Live):
    await guest.agent.reseed_random_dev(bytes(range(256)))

    assert (await refusal(guest.agent.reseed_random_dev(b""))).code is Status.INVALID_ARGUMENT


async def test_memory_by_probe_is_refused_where_the_kernel_has_no_probe(guest: Live):
    details = await guest.agent.get_guest_details()
    error = await refusal(guest.agent.upkeep.mem_hotplug_by_probe([0x1_0000_0000]))

    assert details.mem_block_size_bytes >= MIB
    assert details.support_mem_hotplug_probe or error.code in {Status.UNIMPLEMENTED, Status.FAILED_PRECONDITION}


async def test_cpus_that_are_not_there_are_a_deadline_when_waited_for(guest: Live):
    error = await refusal(guest.agent.online_cpu_mem(3, wait=True))

    assert error.code is Status.DEADLINE_EXCEEDED
    assert "of 3 CPUs came online within" in error.message


# Diagnosis


async def test_metrics_are_prometheus_text_of_agent_and_guest(guest: Live):
    lines = (await guest.agent.upkeep.get_metrics()).splitlines()
    values = {line.split()[0]: float(line.split()[-1]) for line in lines if line and not line.startswith("#")}

    assert 5e6 < values["kata_agent_total_rss"] < 60e6
    assert any(name.startswith("kata_guest_meminfo") for name in values)


async def test_the_termination_message_and_the_agents_log(guest: Live):
    name = guest.name()
    await guest.write(f"{SHARED}/{name}-log", b"it was the rain")
    mount = pb.Mount(
        destination="/dev/termination-log", type="bind", source=f"{SHARED}/{name}-log", options=["bind", "rw"]
    )
    standing = spec(process("true"))
    await guest.agent.create_container(container_id=name, oci=spec(process("true"), mounts=[*standing.mounts, mount]))

    assert await guest.agent.upkeep.get_diagnostic_data("termination log", name) == "it was the rain"
    assert "kata-agent info: " in await guest.agent.upkeep.get_diagnostic_data("agent log", "")
    assert (await refusal(guest.agent.upkeep.get_diagnostic_data("diary", name))).code is Status.INVALID_ARGUMENT
    await guest.agent.remove_container(name)


# Files


async def test_volume_statistics_are_those_of_the_file_system(guest: Live):
    await guest.agent.storage.copy_file(
        path=f"{SHARED}/vol", file_size=0, file_mode=stat.S_IFDIR | 0o755, dir_mode=0o755, uid=0, gid=0
    )

    usage = (await guest.agent.storage.get_volume_stats(f"{SHARED}/vol")).usage

    assert len(usage) == 2
    assert all(item.total >= item.used + item.available > 0 for item in usage)
    assert (await refusal(guest.agent.storage.get_volume_stats("/etc"))).code is Status.INVALID_ARGUMENT


@pytest.mark.parametrize(
    "path", ["/etc/passwd", f"{SHARED}/../../../etc/passwd", f"{SHARED}/escape/passwd", "relative", ""]
)
async def test_files_are_written_in_the_shared_tree_only(guest: Live, path: str):
    await guest.link(f"{SHARED}/escape", "/run")

    error = await refusal(guest.write(path, b"x"))

    assert error.code in {
        Status.INVALID_ARGUMENT,
        Status.PERMISSION_DENIED,
        Status.INTERNAL,
        Status.FAILED_PRECONDITION,
    }


async def test_a_file_of_20_mib_comes_in_pieces_with_its_mode_and_owner(guest: Live):
    data = bytes(range(256)) * 4096 * 20
    await guest.write(f"{ROOTFS}/tmp/large", data, 0o640)

    assert (await guest.sh("stat -c '%s %a %u' /tmp/large; rm /tmp/large")).split() == [str(len(data)), "640", "0"]


# Streams


async def test_20_mib_through_a_process_have_the_right_sum(guest: Live):
    data = bytes(range(251)) * (20 * MIB // 251)
    name = guest.name()
    await guest.agent.exec_process(container_id=STANDING, exec_id=name, process=process("cat", env=list(ENV)))

    async def feed() -> None:
        for offset in range(0, len(data), MIB):
            await guest.agent.write_stdin(STANDING, name, data[offset : offset + MIB], timeout=None)
        await guest.agent.close_stdin(STANDING, name)

    async def drain() -> bytes:
        received = bytearray()
        while piece := await guest.agent.read_stdout(STANDING, name, MIB, position=len(received)):
            received += piece
        return bytes(received)

    _, received = await asyncio.gather(feed(), drain())

    assert received == data
    assert await guest.agent.wait_process(STANDING, name) == 0
