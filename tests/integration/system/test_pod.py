"""A pod through CRI: its containers in one VM, with what they share and what each has for itself."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator

import pytest
from grpclib.exceptions import GRPCError

from protos.gen.runtime import v1 as api
from tests.harness import guest
from tests.harness.cri import Cri, Pod
from tests.harness.fixtures import BedKeeper
from tests.harness.waiting import eventually_async
from tests.integration.system.pods import PodKeeper, linux, output, pod_linux, running

pytestmark = [pytest.mark.integration, pytest.mark.anyio]

MIB = 1 << 20
DNS = api.DnsConfig(servers=["192.0.2.53", "2001:db8::53"], searches=["one.test", "two.test"], options=["ndots:3"])


@pytest.fixture(scope="module")
async def keeper(bed_keeper: BedKeeper) -> AsyncIterator[PodKeeper]:
    """Owner of the module's pod; checks that its removal leaves nothing."""
    bed = bed_keeper.bed()
    check = bed.leak_check()
    keeper = PodKeeper(bed_keeper, "shared", hostname="pod-name", dns_config=DNS, linux=pod_linux())
    yield keeper
    await keeper.close()
    if bed is bed_keeper.bed():
        check.assert_clean()


@pytest.fixture
async def kept(keeper: PodKeeper) -> tuple[Cri, Pod]:
    """The client and the pod, which runs before what the test leaves is looked at."""
    return await keeper.pod()


@pytest.fixture
def cri(kept: tuple[Cri, Pod], nothing_left: None) -> Cri:
    """The client."""
    return kept[0]


@pytest.fixture
def pod(kept: tuple[Cri, Pod]) -> Pod:
    """The pod."""
    return kept[1]


async def test_containers_of_a_pod_are_in_one_machine_that_is_not_the_host(cri: Cri, pod: Pod) -> None:
    async with running(cri, pod, "one") as one, running(cri, pod, "two") as two:
        first = guest.identity((await cri.exec(one, *guest.IDENTITY_COMMAND)).text)
        second = guest.identity((await cri.exec(two, *guest.IDENTITY_COMMAND)).text)

    assert first == second
    assert first[0] != guest.host_kernel()
    assert first[1] != guest.host_boot_id()


async def test_an_exec_s_large_output_is_whole(cri: Cri, pod: Pod) -> None:
    async with running(cri, pod, "one") as one:
        script = "head -c 2097152 /dev/urandom > /tmp/x; cat /tmp/x >&2; sha256sum < /tmp/x"
        done = await cri.exec(one, "sh", "-c", script)

    assert done.exit_code == 0
    assert len(done.stderr) == 2 * MIB
    assert done.text.split()[0] == hashlib.sha256(done.stderr).hexdigest()


async def test_the_log_has_each_line_once_and_says_which_output_it_was(cri: Cri, pod: Pod) -> None:
    script = (
        "for n in 1 2 3 4 5 6 7 8 9; do echo out $n; echo err $n >&2; done; head -c 20000 /dev/zero | tr '\\0' x; echo"
    )
    async with running(cri, pod, "one", "sh", "-c", script) as one:
        await cri.wait_exit(one)
        lines = one.log()

    assert [line.text for line in lines if line.stream == "stderr"] == [f"err {n}" for n in range(1, 10)]
    assert [line.text for line in lines if line.stream == "stdout"] == [
        *(f"out {n}" for n in range(1, 10)),
        "x" * 20000,
    ]


async def test_statistics_of_a_container(cri: Cri, pod: Pod) -> None:
    resources = api.LinuxContainerResources(memory_limit_in_bytes=64 * MIB)
    script = "x=$(head -c 8388608 /dev/zero | tr '\\0' y); echo full; while :; do sleep 1000; done"
    async with running(cri, pod, "one", "sh", "-c", script, linux=linux(resources=resources)) as one:

        async def is_full() -> bool:
            return bool(one.log())

        await eventually_async(is_full, "the container has filled its memory")

        async def counted() -> api.ContainerStats | None:
            # The working set is without inactive pages of files, whose number in memory.stat may be two seconds old.
            stats = await cri.stats(one)
            used = stats.memory and stats.memory.working_set_bytes
            return stats if used and used.value > 8 * MIB else None

        stats = await eventually_async(counted, "the container's working set has what it filled")

    assert stats is not None
    assert stats.memory is not None
    assert stats.memory.working_set_bytes is not None
    assert stats.memory.working_set_bytes.value < 64 * MIB
    assert stats.memory.available_bytes is not None
    assert 0 < stats.memory.available_bytes.value < 56 * MIB
    assert stats.cpu is not None
    assert stats.cpu.usage_core_nano_seconds is not None
    assert stats.cpu.usage_core_nano_seconds.value > 1_000_000


async def test_a_list_of_statistics_has_the_running_and_survives_the_ended(cri: Cri, pod: Pod) -> None:
    async with (
        running(cri, pod, "one") as one,
        running(cri, pod, "two") as two,
        running(cri, pod, "end", "true") as end,
    ):
        await cri.wait_exit(end)
        wanted = api.ContainerStatsFilter(pod_sandbox_id=pod.id)
        request = api.ListContainerStatsRequest(filter=wanted)
        stats = (await cri.runtime.list_container_stats(request, timeout=30)).stats

    used = {item.attributes.id: item.memory for item in stats if item.attributes}
    assert {one.id, two.id} <= used.keys()
    assert all(memory and memory.working_set_bytes for key, memory in used.items() if key != end.id)


async def test_name_and_dns_of_the_pod_are_its_containers(cri: Cri, pod: Pod) -> None:
    async with running(cri, pod, "one") as one:
        name = (await cri.exec(one, "hostname")).text
        file = (await cri.exec(one, "cat", "/etc/hostname")).text
        resolver = (await cri.exec(one, "cat", "/etc/resolv.conf")).text

    assert (name, file) == ("pod-name", "pod-name")
    assert resolver.split("\n") == [
        "search one.test two.test",
        "nameserver 192.0.2.53",
        "nameserver 2001:db8::53",
        "options ndots:3",
    ]


async def test_a_container_does_not_see_the_processes_of_others(cri: Cri, pod: Pod) -> None:
    async with running(cri, pod, "one", "sleep", "1002"), running(cri, pod, "two") as two:
        assert (await cri.exec(two, "sh", "-c", "cat /proc/1/cmdline | tr '\\0' ' '")).text.startswith("sh -c trap")
        assert "sleep 1002" not in (await cri.exec(two, "ps")).text


async def test_command_environment_and_directory_of_a_container(cri: Cri, pod: Pod) -> None:
    text = await output(
        cri,
        pod,
        "one",
        "sh",
        args=["-c", 'echo "$0 $GREETING $(pwd)"', "arg"],
        envs=[api.KeyValue(key="GREETING", value=b"good day")],
        working_dir="/home/app",
    )

    assert text == "arg good day /home/app"


async def test_new_limits_reach_a_running_container(cri: Cri, pod: Pod) -> None:
    script = "cd /sys/fs/cgroup; cat memory.max cpu.max"
    before = api.LinuxContainerResources(memory_limit_in_bytes=64 * MIB, cpu_quota=20_000, cpu_period=100_000)
    after = api.LinuxContainerResources(memory_limit_in_bytes=96 * MIB, cpu_quota=40_000, cpu_period=100_000)
    async with running(cri, pod, "one", linux=linux(resources=before)) as one:
        assert (await cri.exec(one, "sh", "-c", script)).text.split("\n") == [str(64 * MIB), "20000 100000"]

        request = api.UpdateContainerResourcesRequest(container_id=one.id, linux=after)
        await cri.runtime.update_container_resources(request, timeout=30)

        assert (await cri.exec(one, "sh", "-c", script)).text.split("\n") == [str(96 * MIB), "40000 100000"]


async def test_a_container_starts_again_under_its_name_and_after_the_last_one_went(cri: Cri, pod: Pod) -> None:
    boots = set()
    for code in (3, 4):
        script = f"cat /proc/sys/kernel/random/boot_id; exit {code}"
        one = await cri.run(pod, "again", "sh", "-c", script, linux=linux())
        assert (await cri.wait_exit(one)).exit_code == code
        boots.add(one.log()[-1].text)
        await cri.remove(one)

    assert len(boots) == 1


async def test_a_second_pod_of_the_same_name_is_refused_and_the_first_goes_on(cri: Cri, pod: Pod) -> None:
    request = api.RunPodSandboxRequest(config=pod.config, runtime_handler=cri.handler.name)

    with pytest.raises(GRPCError) as refused:
        await cri.runtime.run_pod_sandbox(request, timeout=60)

    assert "reserved" in (refused.value.message or "")
    assert (await cri.pod_status(pod)).state is api.PodSandboxState.SANDBOX_READY
    assert await output(cri, pod, "one", "echo", "alive") == "alive"
