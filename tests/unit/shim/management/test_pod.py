"""The management socket of a pod, with a fake guest behind it."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

import anyio
import pytest
from grpclib.const import Status

from protos.gen import grpc as pb
from protos.gen import wellknown
from shim.management import overhead, pod_metrics, server
from shim.management.client import ManagementError, ask
from shim.management.exposition import Family, parse
from shim.management.paths import socket_in
from tests.fakes.world import World

pytestmark = pytest.mark.anyio

_GUEST = """\
# TYPE kata_guest_load gauge
kata_guest_load{item="load1"} 0.5
# TYPE process_cpu_seconds_total counter
process_cpu_seconds_total 3
# TYPE kata_shim_threads gauge
kata_shim_threads 4242424242424242
up 1
kata_guest_evil{a="\x1b]0;x"} 1
kata_guest_broken{a=} 1
"""


async def get(world: World, target: str, method: str = "GET", **options: Any) -> bytes:
    return await ask(socket_in(world.sandbox.pod.directory.path), method, target, **options)


async def refused(world: World, target: str, method: str = "GET", **options: Any) -> ManagementError:
    with pytest.raises(ManagementError) as caught:
        await get(world, target, method, **options)
    assert str(caught.value).isprintable()
    return caught.value


async def metrics(world: World) -> dict[str, Family]:
    return {family.name: family for family in parse((await get(world, "/metrics")).decode())}


def only(family: Family) -> str:
    [sample] = family.samples
    return sample.value


async def test_the_socket_is_roots_alone_and_goes_with_the_run_directory(managed: World) -> None:
    path = socket_in(managed.sandbox.pod.directory.path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600

    await managed.sandbox.shutdown()

    assert not path.parent.exists()


async def test_a_pod_without_a_vm_has_metrics_of_its_shim(managed: World) -> None:
    told = await metrics(managed)

    assert int(only(told["kata_shim_threads"])) >= 1
    assert told["kata_shim_vm_state"].samples[0].labels == (("state", "none"),)
    assert only(told["kata_shim_agent_up"]) == "0"


async def test_metrics_of_a_running_pod(managed: World) -> None:
    managed.agent.answer("GetMetrics", pb.Metrics(metrics=_GUEST))
    await managed.single()

    told = await metrics(managed)

    assert told["kata_shim_vm_state"].samples[0].labels == (("state", "running"),)
    assert told["kata_shim_containers"].samples[0].labels == (("status", "running"),)
    assert only(told["kata_shim_vm_memory_bytes"]) == str(2048 << 20)
    assert only(told["kata_guest_load"]) == "0.5"
    assert only(told["kata_agent_process_cpu_seconds_total"]) == "3"


async def test_a_guest_speaks_for_itself_alone(managed: World) -> None:
    managed.agent.answer("GetMetrics", pb.Metrics(metrics=_GUEST))
    await managed.single()

    text = (await get(managed, "/metrics")).decode()

    assert "4242424242424242" not in text
    assert "\nup " not in text
    assert "\x1b" not in text
    assert "kata_guest_broken" not in text


async def test_a_guests_metrics_are_bounded(managed: World) -> None:
    flood = "".join(f'kata_guest_x{{n="{number}"}} 1\n' for number in range(40_000))
    managed.agent.answer("GetMetrics", pb.Metrics(metrics=flood))
    await managed.single()

    told = await metrics(managed)

    assert len(told["kata_guest_x"].samples) == pod_metrics.GUEST_SAMPLES_MAX


def memory_use(size: int) -> pb.StatsContainerResponse:
    memory = pb.MemoryStats(usage=pb.MemoryData(usage=size))
    return pb.StatsContainerResponse(cgroup_stats=pb.CgroupStats(memory_stats=memory))


@pytest.mark.parametrize("used", [0, 1 << 20, 2**64 - 1])
async def test_the_overhead_is_what_the_containers_do_not_use(managed: World, used: int) -> None:
    managed.agent.answer("GetMetrics", pb.Metrics(metrics=""))
    managed.agent.answer("StatsContainer", memory_use(used))
    await managed.single()

    told = int(only((await metrics(managed))[overhead.NAME]))

    held = overhead.proportional(os.getpid())
    assert 0 <= told <= max(0, held - used) + (16 << 20)
    assert (told == 0) == (used > held)


async def test_the_time_of_vcpus_is_no_overhead(managed: World, monkeypatch: pytest.MonkeyPatch) -> None:
    await managed.single()
    managed.vm.monitor.answers["query-cpus-fast"] = [{"thread-id": 7}]
    spent = {str(os.getpid()): 500, f"{managed.vm.pid}/task/7": 300}
    monkeypatch.setattr(overhead, "ticks", lambda task: spent.get(task, 0))

    told = only((await metrics(managed))[overhead.CPU_NAME])

    assert float(told) == 200 / os.sysconf("SC_CLK_TCK")


async def test_a_qemu_that_does_not_tell_its_threads_costs_that_metric_only(managed: World) -> None:
    await managed.single()
    managed.vm.monitor.errors["query-cpus-fast"] = "no"

    told = await metrics(managed)

    assert overhead.CPU_NAME not in told
    assert "kata_shim_threads" in told


def test_the_kernels_numbers_are_read_and_who_is_gone_has_none(tmp_path: Path) -> None:
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "stat").write_text("7 (a ) b) S 1 1 1 0 -1 4194304 1 2 3 4 50 60 7 8 20 0\n")
    (tmp_path / "7" / "smaps_rollup").write_text("0-1 ---p 0 00:00 0 [rollup]\nRss: 9 kB\nPss: 4 kB\n")

    assert overhead.ticks("7", tmp_path) == 110
    assert overhead.proportional(7, tmp_path) == 4096
    assert overhead.ticks("8", tmp_path) == overhead.proportional(8, tmp_path) == 0


async def test_no_overhead_is_told_where_the_guest_does_not_tell_its_part(managed: World) -> None:
    managed.agent.answer("GetMetrics", pb.Metrics(metrics=""))
    managed.agent.answer("StatsContainer", pb.StatsContainerResponse())
    await managed.single()

    assert overhead.NAME not in await metrics(managed)


async def test_a_guest_that_fails_costs_its_own_part_only(managed: World) -> None:
    managed.agent.fail("GetMetrics", Status.INTERNAL, "no")
    await managed.single()

    told = await metrics(managed)

    assert only(told["kata_shim_agent_up"]) == "0"
    assert "kata_shim_threads" in told


async def test_a_guest_that_hangs_costs_its_own_part_only(managed: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pod_metrics, "GUEST_TIMEOUT", 0.1)
    managed.agent.block("GetMetrics")
    await managed.single()

    told = await metrics(managed)

    assert only(told["kata_shim_agent_up"]) == "0"


async def test_the_start_is_a_histogram_by_phase_and_kind(managed: World) -> None:
    await managed.single()

    family = (await metrics(managed))[pod_metrics.PHASES]

    assert family.kind == "histogram"
    counts = {dict(one.labels)["phase"]: one for one in family.samples if one.name.endswith("_count")}
    assert {"vm", "agent", "guest", "total"} <= set(counts)
    assert all(dict(one.labels)["kind"] == "cold" and one.value == "1" for one in counts.values())


def test_buckets_count_up_to_the_duration() -> None:
    family = pod_metrics.phase_histogram(
        pod_metrics.StartRecord(kind="cold", at=0.0, total=0.3, durations={"vm": 0.02})
    )

    buckets = {
        dict(one.labels)["le"]: one.value
        for one in family.samples
        if one.name.endswith("_bucket") and ("phase", "vm") in one.labels
    }
    assert (buckets["0.01"], buckets["0.025"], buckets["60"], buckets["+Inf"]) == ("0", "1", "1", "1")


async def test_the_start_is_in_the_journal(managed: World) -> None:
    await managed.single()

    journal = json.loads((managed.sandbox.pod.directory.path / "state.json").read_text())

    started = managed.sandbox.pod.started
    assert started is not None
    assert journal["started"]["start"] == started.fact()
    assert journal["started"]["vm"]["accelerator"] == "tcg"


async def test_facts_of_the_pod(managed: World) -> None:
    await managed.single()

    told = json.loads(await get(managed, "/sandbox"))

    assert told["vm"] == {"state": "running", "cause": "", "vcpus": 1, "memory_mib": 2048}
    assert told["containers"] == {"c1": {"status": "running", "exit_status": None, "execs": []}}


async def test_the_agents_url(managed: World) -> None:
    assert (await refused(managed, "/agent-url")).status == 503
    await managed.single()

    assert (await get(managed, "/agent-url")).decode() == managed.agent.url


async def test_packet_filter_rules_are_got_and_set(managed: World) -> None:
    managed.agent.answer("GetIPTables", pb.GetIpTablesResponse(data=b"*filter\n\x1b[31mCOMMIT\n"))
    managed.agent.answer("SetIPTables", pb.SetIpTablesResponse(data=b""))
    await managed.single()

    rules = await get(managed, "/iptables")
    await get(managed, "/ip6tables", "PUT", body=b"*nat\nCOMMIT\n")

    assert rules == b"*filter\n?[31mCOMMIT\n"
    [asked] = managed.agent.requests("SetIPTables")
    assert (asked.is_ipv6, asked.data) == (True, b"*nat\nCOMMIT\n")


async def test_a_guests_error_is_one_line(managed: World) -> None:
    managed.agent.fail("GetIPTables", Status.INVALID_ARGUMENT, "line one\nline \x1b two")
    await managed.single()

    error = await refused(managed, "/iptables")

    assert error.status == 400
    assert "line one line ? two" in str(error)


async def test_statistics_of_a_volume_by_either_path(managed: World) -> None:
    usage = pb.VolumeUsage(available=1, total=3, used=2, unit=pb.VolumeUsageUnit.BYTES)
    condition = pb.VolumeCondition(abnormal=True, message="bad\nblocks")
    managed.agent.answer("GetVolumeStats", pb.VolumeStatsResponse(usage=[usage], volume_condition=condition))
    await managed.single()

    told = json.loads(
        await get(managed, "/direct-volume/stats", query={"path": "/run/kata-containers/sandbox/storage/x"})
    )
    unknown = await refused(managed, "/direct-volume/stats", "POST", query={"path": "/etc"})

    assert told["usage"] == [{"available": 1, "total": 3, "used": 2, "unit": 1}]
    assert told["volume_condition"] == {"abnormal": True, "message": "bad blocks"}
    assert unknown.status == 404


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"\xff", b"[" * 100_000, b'{"VolumePath": 1, "Size": 1}', b'{"VolumePath": "/x", "Size": true}'],
)
async def test_a_malformed_resize_is_refused(managed: World, body: bytes) -> None:
    await managed.single()

    assert (await refused(managed, "/direct-volume/resize", "POST", body=body)).status == 400


async def test_a_policy_reaches_the_agent(managed: World) -> None:
    managed.agent.answer("SetPolicy", wellknown.Empty())
    await managed.single()

    await get(managed, "/policy", "PUT", body=b"package agent_policy\n")
    garbled = await refused(managed, "/policy", "PUT", body=b"\xff")

    assert [asked.policy for asked in managed.agent.requests("SetPolicy")] == ["package agent_policy\n"]
    assert garbled.status == 400


async def test_unknown_requests_are_told_what_there_is(managed: World) -> None:
    missing, wrong = await refused(managed, "/nothing"), await refused(managed, "/metrics", "PUT")

    assert (missing.status, wrong.status) == (404, 405)
    assert "/metrics" in str(missing)


async def test_a_client_that_says_nothing_keeps_no_place(managed: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "TRANSFER_TIMEOUT", 0.2)
    path = socket_in(managed.sandbox.pod.directory.path)

    idle = [await anyio.connect_unix(path) for _ in range(2 * server.CONNECTIONS_MAX)]
    answer = await get(managed, "/sandbox")

    assert json.loads(answer)["sandbox_id"] == "c1"
    assert b" 408 " in await idle[0].receive()
    for one in idle:
        await one.aclose()


async def test_a_request_that_fails_is_its_own_end_only(managed: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pod_metrics, "vm_state", lambda pod: 1 / 0)
    assert (await refused(managed, "/sandbox")).status == 500
    monkeypatch.undo()

    assert json.loads(await get(managed, "/sandbox"))["sandbox_id"] == "c1"


async def test_a_pod_whose_socket_is_gone_says_so(managed: World) -> None:
    socket_in(managed.sandbox.pod.directory.path).unlink()

    assert "No such file" in str(await refused(managed, "/sandbox"))
