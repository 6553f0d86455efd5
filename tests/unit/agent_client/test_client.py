"""The client: every RPC of the protocol goes out as asked and comes back as answered."""

from __future__ import annotations

import asyncio
import signal

import pytest

from agent_client.client import AgentClient
from agent_client.errors import AgentError
from protos.gen import grpc as pb
from protos.gen import types
from tests.fakes.agent import PATIENCE, FakeAgent

pytestmark = pytest.mark.anyio


async def run(client: AgentClient, container_id: str = "c1") -> None:
    """Create and start a container."""
    await client.create_container(container_id=container_id, oci=pb.Spec())
    await client.start_container(container_id)


@pytest.mark.parametrize("kind", ["unix", "serial", "hvsock"])
async def test_a_container_runs_over_every_kind_of_stream(tmp_path, kind):
    async with FakeAgent(tmp_path / "a", kind=kind, noise=b"boot messages\r\n" if kind == "serial" else b"") as agent:
        agent.on_start("c1", stdout=b"hello", stderr=b"oh", exit_code=3)
        client = await AgentClient.connect(agent.url, timeout=PATIENCE)

        await client.create_sandbox(sandbox_id="s1", hostname="pod")
        await run(client)

        assert await client.read_stdout("c1", "", 3) == b"hel"
        assert await client.read_stdout("c1", "", 99) == b"lo"
        assert await client.read_stdout("c1", "", 99) == b""
        assert await client.read_stderr("c1", "c1", 99) == b"oh"
        assert await client.wait_process("c1", "") == 3
        client.close()
        await client.wait_closed()
        assert client.closed


async def test_connecting_asks_whether_the_agent_serves(agent, client):
    assert [rpc for rpc, _ in agent.calls] == ["Check"]


async def test_versions_are_told(client):
    assert await client.version() == ("0.0.1", "fake-1.0")


async def test_a_sandbox_is_described_whole(agent, client):
    storage = pb.Storage(driver="virtio-fs", source="kataShared", fstype="virtiofs", mount_point="/run/shared")

    await client.create_sandbox(
        sandbox_id="s1",
        hostname="pod",
        dns=("nameserver 10.0.0.1",),
        storages=(storage,),
        sandbox_pidns=True,
        guest_hook_path="/hooks",
        kernel_modules=(pb.KernelModule(name="fuse", parameters=["a=1"]),),
    )

    sent = agent.sandbox
    assert (sent.sandbox_id, sent.hostname, sent.dns) == ("s1", "pod", ["nameserver 10.0.0.1"])
    assert (sent.sandbox_pidns, sent.guest_hook_path) == (True, "/hooks")
    assert sent.storages[0].source == "kataShared"
    assert sent.kernel_modules[0].parameters == ["a=1"]


async def test_a_second_sandbox_already_exists(client):
    await client.create_sandbox(sandbox_id="s1")

    with pytest.raises(AgentError) as caught:
        await client.create_sandbox(sandbox_id="s1")

    assert caught.value.code.name == "ALREADY_EXISTS"
    assert not caught.value.lost


async def test_a_container_is_described_whole(agent, client):
    await client.create_container(
        container_id="c1",
        oci=pb.Spec(hostname="h", process=pb.Process(args=["sh"], env=["A=1"])),
        string_user=pb.StringUser(uid="7"),
        devices=[pb.Device(id="d", vm_path="/dev/vda")],
        storages=[pb.Storage(driver="local")],
        sandbox_pidns=True,
        shared_mounts=[pb.SharedMount(name="m")],
    )

    sent = agent.container("c1").request
    assert sent.exec_id == "c1", "the init process goes by the container's id, as with Kata"
    assert sent.oci.process.args == ["sh"]
    assert sent.string_user.uid == "7"
    assert (sent.devices[0].id, sent.storages[0].driver, sent.shared_mounts[0].name) == ("d", "local", "m")
    assert sent.sandbox_pidns


async def test_a_container_is_paused_resumed_updated_counted_and_removed(agent, client):
    await run(client)
    agent.container("c1").stats = pb.StatsContainerResponse(
        cgroup_stats=pb.CgroupStats(pids_stats=pb.PidsStats(current=2))
    )

    await client.pause_container("c1")
    assert agent.container("c1").paused
    await client.resume_container("c1")
    assert not agent.container("c1").paused
    await client.update_container("c1", pb.LinuxResources(pids=pb.LinuxPids(limit=9)))
    assert agent.container("c1").resources.pids.limit == 9
    assert (await client.stats_container("c1")).cgroup_stats.pids_stats.current == 2
    await client.remove_container("c1", 4)
    assert agent.containers == {}
    assert agent.requests("RemoveContainer")[0].timeout == 4


async def test_an_exec_has_streams_a_terminal_and_an_end_of_its_own(agent, client):
    await run(client)
    agent.on_exec("c1", echo=True)

    await client.exec_process(container_id="c1", exec_id="e1", process=pb.Process(args=["cat"], terminal=True))
    await client.tty_win_resize("c1", "e1", 24, 80)
    assert await client.write_stdin("c1", "e1", b"abc") == 3
    assert await client.read_stdout("c1", "e1", 10) == b"abc"
    await client.close_stdin("c1", "e1")

    assert await client.wait_process("c1", "e1") == 0
    process = agent.process("c1", "e1")
    assert (bytes(process.stdin), process.stdin_closed, process.size) == (b"abc", True, (24, 80))
    assert process.request.args == ["cat"]


async def test_a_signal_reaches_one_process_and_sigkill_without_exec_id_all(agent, client):
    await run(client)
    await client.exec_process(container_id="c1", exec_id="e1", process=pb.Process())

    await client.signal_process("c1", "e1", signal.SIGTERM)
    assert await client.wait_process("c1", "e1") == 143
    await client.exec_process(container_id="c1", exec_id="e2", process=pb.Process())
    await client.signal_process("c1", "", signal.SIGKILL)

    assert await client.wait_process("c1", "c1") == 137
    assert await client.wait_process("c1", "e2") == 137


async def test_an_oom_kill_is_waited_for(agent, client):
    waiting = asyncio.ensure_future(client.get_oom_event())
    await agent.called("GetOOMEvent")
    agent.oom("c1")

    assert await waiting == "c1"


async def test_the_guest_is_given_an_identity(agent, client):
    await client.reseed_random_dev(b"\x01\x02")
    await client.set_guest_date_time(1_700_000_000_123_456_789)
    await client.online_cpu_mem(2, wait=True, cpu_only=True)

    assert agent.entropy == b"\x01\x02"
    assert agent.clock == (1_700_000_000, 123_456)
    sent = agent.requests("OnlineCPUMem")[0]
    assert (sent.nb_cpus, sent.wait, sent.cpu_only) == (2, True, True)


@pytest.mark.parametrize(("ours", "sent"), [(True, [(2, 5), (0, 5)]), (False, [(5, None), (0, None)])])
async def test_katas_agent_is_told_how_many_cpus_there_are_to_be_and_ours_how_many_more(agent, client, ours, sent):
    client.sets_cpus_offline = ours
    await client.online_cpu_mem(2, most_cpus=5)
    await client.online_cpu_mem(0, most_cpus=5)
    assert [(request.nb_cpus, request.most_cpus) for request in agent.requests("OnlineCPUMem")] == sent


async def test_guest_details_are_asked_for_and_returned(agent, client):
    details = await client.get_guest_details(mem_hotplug_probe=False)

    assert details.mem_block_size_bytes == 128 << 20
    assert details.agent_details.version == "fake-1.0"
    sent = agent.requests("GetGuestDetails")[0]
    assert (sent.mem_block_size, sent.mem_hotplug_probe) == (True, False)


async def test_the_network_is_set_and_listed(agent, client):
    interface = types.Interface(name="eth0", hw_addr="02:00:00:00:00:01")
    route = types.Route(gateway="10.0.0.1", device="eth0")

    assert (await client.network.update_interface(interface)).name == "eth0"
    assert [each.name for each in await client.network.list_interfaces()] == ["eth0"]
    assert (await client.network.update_routes([route]))[0].gateway == "10.0.0.1"
    assert (await client.network.list_routes())[0].device == "eth0"


#: What the fake does not play: the call, its RPC, the answer, what comes back, and what was sent.
PASSED_ON = {
    "AddARPNeighbors": (
        lambda client: client.network.add_arp_neighbors([types.ArpNeighbor(device="eth0")]),
        None,
        None,
        lambda sent: sent.neighbors.arp_neighbors[0].device == "eth0",
    ),
    "GetIPTables": (
        lambda client: client.network.get_ip_tables(is_ipv6=True),
        pb.GetIpTablesResponse(data=b"*nat"),
        b"*nat",
        lambda sent: sent.is_ipv6,
    ),
    "SetIPTables": (
        lambda client: client.network.set_ip_tables(b"*nat"),
        pb.SetIpTablesResponse(data=b"done"),
        b"done",
        lambda sent: sent.data == b"*nat" and not sent.is_ipv6,
    ),
    "CopyFile": (
        lambda client: client.storage.copy_file(
            path="/run/f", file_size=3, file_mode=0o100644, dir_mode=0o755, uid=1, gid=2, offset=0, data=b"abc"
        ),
        None,
        None,
        lambda sent: (sent.path, sent.file_mode, sent.gid, sent.data) == ("/run/f", 0o100644, 2, b"abc"),
    ),
    "UpdateEphemeralMounts": (
        lambda client: client.storage.update_ephemeral_mounts([pb.Storage(fstype="tmpfs")]),
        None,
        None,
        lambda sent: sent.storages[0].fstype == "tmpfs",
    ),
    "RemoveStaleVirtiofsShareMounts": (
        lambda client: client.storage.remove_stale_virtiofs_share_mounts(),
        None,
        None,
        lambda sent: sent == pb.RemoveStaleVirtiofsShareMountsRequest(),
    ),
    "GetVolumeStats": (
        lambda client: client.storage.get_volume_stats("/v"),
        pb.VolumeStatsResponse(usage=[pb.VolumeUsage(total=5)]),
        pb.VolumeStatsResponse(usage=[pb.VolumeUsage(total=5)]),
        lambda sent: sent.volume_guest_path == "/v",
    ),
    "ResizeVolume": (
        lambda client: client.storage.resize_volume("/v", 7),
        None,
        None,
        lambda sent: (sent.volume_guest_path, sent.size) == ("/v", 7),
    ),
    "AddSwap": (
        lambda client: client.storage.add_swap((2, 3)),
        None,
        None,
        lambda sent: sent.pci_path == [2, 3],
    ),
    "AddSwapPath": (
        lambda client: client.storage.add_swap_path("/swap"),
        None,
        None,
        lambda sent: sent.path == "/swap",
    ),
    "MemHotplugByProbe": (
        lambda client: client.upkeep.mem_hotplug_by_probe([1 << 40]),
        None,
        None,
        lambda sent: sent.mem_hotplug_probe_addr == [1 << 40],
    ),
    "MemAgentMemcgSet": (
        lambda client: client.upkeep.mem_agent_memcg_set(pb.MemAgentMemcgConfig(swap=False)),
        None,
        None,
        lambda sent: sent.swap is False and sent.disabled is None,
    ),
    "MemAgentCompactSet": (
        lambda client: client.upkeep.mem_agent_compact_set(pb.MemAgentCompactConfig(compact_order=9)),
        None,
        None,
        lambda sent: sent.compact_order == 9,
    ),
    "GetMetrics": (
        lambda client: client.upkeep.get_metrics(),
        pb.Metrics(metrics="a 1\nb 2\n"),
        "a 1\nb 2\n",
        lambda sent: sent == pb.GetMetricsRequest(),
    ),
    "GetDiagnosticData": (
        lambda client: client.upkeep.get_diagnostic_data("termination-log", "c1"),
        pb.GetDiagnosticDataResponse(data="bye"),
        "bye",
        lambda sent: (sent.log_type, sent.container_id) == ("termination-log", "c1"),
    ),
    "SetPolicy": (
        lambda client: client.upkeep.set_policy("package p"),
        None,
        None,
        lambda sent: sent.policy == "package p",
    ),
}


@pytest.mark.parametrize("rpc", PASSED_ON)
async def test_a_request_is_sent_and_its_reply_returned(agent, client, rpc):
    from protos.gen import wellknown

    call, reply, returned, sent_as_asked = PASSED_ON[rpc]
    agent.answer(rpc, reply or wellknown.Empty())

    assert await call(client) == returned
    assert sent_as_asked(agent.requests(rpc)[0])


async def test_what_the_agent_does_not_implement_is_unimplemented(client):
    with pytest.raises(AgentError) as caught:
        await client.storage.resize_volume("/v", 7)

    assert caught.value.code.name == "UNIMPLEMENTED"
    assert caught.value.rpc == "ResizeVolume"


async def test_destroying_the_sandbox_ends_its_processes(agent, client):
    await run(client)
    waiting = asyncio.ensure_future(client.wait_process("c1", ""))
    await agent.called("WaitProcess")

    await client.destroy_sandbox()

    assert await waiting == 137
    assert agent.destroyed


def test_every_rpc_of_the_protocol_has_a_method():
    """By the routes: what the stubs can call is what the modules of the client name."""
    from pathlib import Path

    import agent_client

    routes = {
        route.rpartition("/")[2] for base in (pb.AgentServiceBase, pb.HealthBase) for route in base().__mapping__()
    }
    source = "".join(path.read_text() for path in Path(agent_client.__file__).parent.glob("*.py"))

    assert len(routes) == 44
    assert {rpc for rpc in routes if f'"{rpc}"' not in source} == set()
