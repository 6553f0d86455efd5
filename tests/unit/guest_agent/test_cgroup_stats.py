"""cgroup v2's files in the protocol's statistics."""

from __future__ import annotations

import asyncio
import os

import pytest

from guest.agent import cgroup as cgroup_module
from guest.agent import stats
from guest.agent.cgroup import Cgroup, flat_keyed, nested_keyed
from guest.agent.errors import DeadlineError, FailedPreconditionError
from protos.lean.gen.grpc import Pressure, PressureLine, RdmaDevice, UnifiedStats

pytestmark = pytest.mark.anyio

FILES = {
    "cpu.stat": "usage_usec 30\nuser_usec 20\nsystem_usec 10\nnr_periods 5\nnr_throttled 2\nthrottled_usec 7\n"
    "nr_bursts 4\nburst_usec 6\n",
    "cpu.pressure": "some avg10=12.34 avg60=0.07 avg300=0.00 total=99\n",
    "memory.pressure": "",
    "rdma.current": "mlx5_0 hca_handle=2 hca_object=3\n",
    "rdma.max": "mlx5_0 hca_handle=4 hca_object=max\n",
    "memory.current": "4096\n",
    "memory.peak": "8192\n",
    "memory.max": "max\n",
    "memory.stat": "anon 1\nfile 2\nkernel 3\nfuture_key 4\n",
    "memory.events": "low 0\nhigh 0\nmax 6\noom 1\noom_kill 1\n",
    "memory.swap.current": "5\n",
    "memory.swap.max": "100\n",
    "pids.current": "3\n",
    "pids.max": "50\n",
    "io.stat": "254:0 rbytes=10 wbytes=20 rios=1 wios=2 dbytes=0 dios=0\n8:0\n",
    "hugetlb.2MB.current": "2097152\n",
    "hugetlb.2MB.max": "max\n",
    "hugetlb.2MB.events": "max 9\n",
    "hugetlb.2MB.rsvd.current": "0\n",
    "cgroup.freeze": "0\n",
    "cgroup.events": "populated 1\nfrozen 1\n",
    "cgroup.procs": "1\n2\n",
    "cgroup.kill": "",
}


@pytest.fixture
def cgroup(tmp_path):
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    return Cgroup(str(tmp_path))


def test_cpu_times_are_nanoseconds(cgroup):
    cpu = stats.cgroup_stats(cgroup).cpu_stats

    usage, throttling = cpu.cpu_usage, cpu.throttling_data
    assert (usage.total_usage, usage.usage_in_usermode, usage.usage_in_kernelmode) == (30_000, 20_000, 10_000)
    assert (throttling.periods, throttling.throttled_periods, throttling.throttled_time) == (5, 2, 7_000)


def test_memory_has_usage_peak_and_limit(cgroup):
    memory = stats.cgroup_stats(cgroup).memory_stats

    assert (memory.usage.usage, memory.usage.max_usage, memory.usage.failcnt) == (4096, 8192, 6)
    assert memory.usage.limit == stats.UNLIMITED
    assert (memory.swap_usage.usage, memory.swap_usage.limit) == (5, 100)
    assert (memory.cache, memory.kernel_usage.usage) == (2, 3)


def test_every_key_of_memory_stat_and_events_is_kept(cgroup):
    values = stats.cgroup_stats(cgroup).memory_stats.stats

    assert values["future_key"] == 4
    assert values["memory.events.oom_kill"] == 1
    assert len(values) == 4 + 5


def test_pids_block_io_and_huge_pages_are_told(cgroup):
    result = stats.cgroup_stats(cgroup)

    assert (result.pids_stats.current, result.pids_stats.limit) == (3, 50)
    entries = {(entry.major, entry.op): entry.value for entry in result.blkio_stats.io_service_bytes_recursive}
    assert entries == {(254, "Read"): 10, (254, "Write"): 20, (254, "Discard"): 0}
    assert {size: (page.usage, page.failcnt) for size, page in result.hugetlb_stats.items()} == {"2MB": (2097152, 9)}


def test_a_cgroup_that_is_gone_counts_nothing(tmp_path):
    result = stats.cgroup_stats(Cgroup(str(tmp_path / "none")))

    assert (result.cpu_stats, result.memory_stats, result.pids_stats, result.blkio_stats) == (None,) * 4
    assert result.hugetlb_stats == {}
    assert result.unified == UnifiedStats()


@pytest.mark.parametrize(
    ("missing", "absent"),
    [
        ("pids.current", lambda result: result.pids_stats),
        ("io.stat", lambda result: result.blkio_stats),
        ("memory.current", lambda result: result.memory_stats.usage),
        ("memory.swap.current", lambda result: result.memory_stats.swap_usage),
        ("cpu.stat", lambda result: result.cpu_stats),
        ("cpu.pressure", lambda result: result.unified.cpu_pressure),
    ],
)
def test_what_the_kernel_does_not_count_is_absent_and_not_zero(cgroup, tmp_path, missing, absent):
    assert absent(stats.cgroup_stats(cgroup)) is not None

    (tmp_path / missing).unlink()

    assert absent(stats.cgroup_stats(cgroup)) is None


def test_a_cgroup_without_the_cpu_controller_has_times_and_no_throttling(cgroup, tmp_path):
    (tmp_path / "cpu.stat").write_text("usage_usec 30\nuser_usec 20\nsystem_usec 10\n")

    cpu = stats.cgroup_stats(cgroup).cpu_stats

    assert cpu.cpu_usage.total_usage == 30_000
    assert cpu.throttling_data is None


def test_what_has_no_place_in_katas_messages_is_told_beside_them(cgroup):
    unified = stats.cgroup_stats(cgroup).unified

    assert unified.cpu_pressure == Pressure(some=PressureLine(avg10=1234, avg60=7, total=99))
    assert unified.memory_pressure is None
    assert unified.rdma_current == [RdmaDevice(name="mlx5_0", hca_handles=2, hca_objects=3)]
    assert unified.rdma_limit == [RdmaDevice(name="mlx5_0", hca_handles=4, hca_objects=(1 << 32) - 1)]
    assert (unified.nr_bursts, unified.burst_usec) == (4, 6)
    assert unified.hugetlb_limits == {"2MB": stats.UNLIMITED}


def test_the_counters_of_the_links_are_read_without_the_loopback():
    text = (
        "Inter-|   Receive  |  Transmit\n face |bytes ...\n"
        "    lo: 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1\n"
        "  eth0:10 11 12 13 0 0 0 0 20 21 22 23 0 0 0 0\n"
    )

    (link,) = stats.network_stats(text)

    assert (link.name, link.rx_bytes, link.rx_packets, link.rx_errors, link.rx_dropped) == ("eth0", 10, 11, 12, 13)
    assert (link.tx_bytes, link.tx_packets, link.tx_errors, link.tx_dropped) == (20, 21, 22, 23)


def test_lines_of_another_shape_are_left_out():
    assert flat_keyed("a 1\nb\nc x\nd 2 3\n") == {"a": 1}
    assert nested_keyed("8:0 a=1 b=x\n8:1\n") == {"8:0": {"a": 1}, "8:1": {}}


def test_processes_are_listed(cgroup):
    assert cgroup.pids() == [1, 2]


def test_killing_writes_to_the_kernel_and_a_cgroup_that_is_gone_is_no_error(cgroup, tmp_path):
    cgroup.kill()
    Cgroup(str(tmp_path / "none")).kill()

    assert (tmp_path / "cgroup.kill").read_text() == "1"


async def test_freezing_waits_until_the_kernel_says_so(cgroup, tmp_path):
    await cgroup.freeze(True)
    assert (tmp_path / "cgroup.freeze").read_text().startswith("1")

    thaw = asyncio.create_task(cgroup.freeze(False))
    await asyncio.sleep(0)
    assert not thaw.done()
    (tmp_path / "cgroup.events").write_text("frozen 0\n")

    await asyncio.wait_for(thaw, 10)


async def test_what_does_not_freeze_in_time_is_thawed_again(cgroup, tmp_path, monkeypatch):
    monkeypatch.setattr(cgroup_module, "FREEZE_TIMEOUT", 0.01)
    (tmp_path / "cgroup.events").write_text("frozen 0\n")

    with pytest.raises(DeadlineError):
        await cgroup.freeze(True)

    assert (tmp_path / "cgroup.freeze").read_text().startswith("0")


async def test_a_cgroup_that_is_gone_can_not_be_frozen(tmp_path):
    with pytest.raises(FailedPreconditionError):
        await Cgroup(str(tmp_path / "none")).freeze(True)


def test_no_descriptor_is_left_open(cgroup):
    before = len(os.listdir("/proc/self/fd"))

    stats.cgroup_stats(cgroup)
    cgroup.kill()

    assert len(os.listdir("/proc/self/fd")) == before
