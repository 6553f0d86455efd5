"""The VM follows the limits of its containers, up and down, and an update is made whole or not at all."""

from __future__ import annotations

import threading

import pytest
from grpclib.const import Status
from grpclib.exceptions import GRPCError

from tests.integration.resources.guest_size import Size, host_cpus, limits, look, update, wait_for
from tests.integration.system.vm import Vm

pytestmark = [
    pytest.mark.integration,
    pytest.mark.anyio,
    pytest.mark.skipif(host_cpus() < 2, reason="a VM on a host with one CPU can't have more"),
]


async def test_the_vm_grows_for_a_container_and_its_updates_and_shrinks_back(vm: Vm) -> None:
    with vm.container() as witness:
        before = look(vm, witness)
        with vm.container(linux={"resources": limits(cpus=1, memory_mib=256)}) as container:
            assert look(vm, witness) == Size(before.cpus + 1, before.memory_mib + 256)
            await update(vm, container, limits(memory_mib=512))
            assert look(vm, witness) == Size(before.cpus + 1, before.memory_mib + 512)
            said = vm.exec(container, "cat", "/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/cpu.max").check().text
            assert said.split() == [str(512 << 20), "100000", "100000"]

            await update(vm, container, {"cpu": {"quota": -1, "period": 100_000}, "memory": {"limit": 256 << 20}})
            wait_for(vm, witness, Size(before.cpus, before.memory_mib + 256))
        wait_for(vm, witness, before)


def test_containers_that_are_made_at_the_same_time_get_the_sum_of_what_they_may_use(vm: Vm) -> None:
    with vm.container() as witness:
        before = look(vm, witness)
        made: list[str] = []

        def make() -> None:
            with vm.container(linux={"resources": limits(memory_mib=128)}) as container:
                made.append(container)
                both.wait(timeout=60)
                seen.append(look(vm, witness).memory_mib)
                both.wait(timeout=60)

        both, seen = threading.Barrier(2), list[int]()
        threads = [threading.Thread(target=make) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert seen == [before.memory_mib + 256] * 2
        wait_for(vm, witness, before)


async def test_more_cpus_than_the_host_has_are_clamped(vm: Vm) -> None:
    with vm.container() as witness:
        before = look(vm, witness)
        with vm.container(linux={"resources": limits(cpus=100)}) as container:
            assert look(vm, container).cpus == host_cpus()
        wait_for(vm, witness, before)


async def test_more_memory_than_the_vm_may_have_is_refused_by_an_update_and_nothing_changes(vm: Vm) -> None:
    with vm.container(linux={"resources": limits(memory_mib=128)}) as container:
        before = look(vm, container)

        with pytest.raises(GRPCError, match=r"may have \d+ \(default_maxmemory, or the host's memory\)") as caught:
            await update(vm, container, limits(memory_mib=1 << 24))

        assert caught.value.status is Status.FAILED_PRECONDITION
        assert look(vm, container) == before
        assert vm.exec(container, "cat", "/sys/fs/cgroup/memory.max").check().text == str(128 << 20)


async def test_a_memory_limit_below_what_is_in_use_is_refused_and_kills_nothing(vm: Vm) -> None:
    eat = "dd if=/dev/zero of=/dev/shm/x bs=1M count=48 2>/dev/null && echo full && exec sleep 3600"
    mounts = [{"destination": "/dev/shm", "type": "tmpfs", "source": "shm", "options": ["size=64m"]}]
    with vm.container("sh", "-c", eat, linux={"resources": limits(memory_mib=128)}, mounts=mounts) as container:
        vm.exec(container, "sh", "-c", "until [ $(du -m /dev/shm/x | cut -f1) -ge 48 ]; do sleep 0.1; done").check()

        with pytest.raises(GRPCError, match="its limit can't become") as caught:
            await update(vm, container, limits(memory_mib=16))

        assert caught.value.status is Status.FAILED_PRECONDITION
        assert vm.exec(container, "cat", "/sys/fs/cgroup/memory.max").check().text == str(128 << 20)


def test_unified_resources_are_files_of_the_containers_cgroup(vm: Vm) -> None:
    resources = {"unified": {"memory.high": str(96 << 20), "memory.oom.group": "1"}}

    done = vm.run_spec(
        "cat", "/sys/fs/cgroup/memory.high", "/sys/fs/cgroup/memory.oom.group", linux={"resources": resources}
    )

    assert done.check().text.split() == [str(96 << 20), "1"]


def test_unified_resources_never_leave_the_containers_cgroup(vm: Vm) -> None:
    resources = {"unified": {"../memory.max": "1"}}

    done = vm.run_spec("true", linux={"resources": resources})

    assert done.returncode != 0
    assert "unified resource '../memory.max' is malformed" in done.error_text
