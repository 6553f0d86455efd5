"""shareProcessNamespace: one process namespace for a pod, whose first process reaps."""

from __future__ import annotations

import pytest

from protos.gen.runtime import v1 as api
from tests.harness.containerd_version import sandboxer
from tests.harness.cri import Container, Cri, Pod
from tests.harness.waiting import eventually_async
from tests.integration.system.pods import linux, pod_linux, running

pytestmark = [pytest.mark.integration, pytest.mark.anyio]

POD = {"linux": pod_linux(api.NamespaceMode.POD)}
SHARED = linux(api.NamespaceMode.POD)


async def _processes(cri: Cri, container: Container) -> str:
    return (await cri.exec(container, "ps", "-o", "args")).text


async def test_containers_see_each_other_and_the_pod_s_own_process_is_the_first(
    cri: Cri, pod: Pod, box: Container
) -> None:
    # A pod of the Sandbox API has no pause: its first container is the first.
    first = "pause" if sandboxer() == "podsandbox" else "trap 'exit 0' TERM"
    async with (
        running(cri, pod, "one", "sleep", "1006", linux=SHARED) as one,
        running(cri, pod, "apart", linux=linux(api.NamespaceMode.CONTAINER)) as apart,
    ):
        assert "sleep 1006" in await _processes(cri, box)
        assert "trap 'exit 0' TERM" in await _processes(cri, one)
        assert "sleep 1006" not in await _processes(cri, apart)
        assert first in (await cri.exec(one, "sh", "-c", "tr '\\0' ' ' < /proc/1/cmdline")).text


async def test_one_may_signal_the_other_whose_end_is_told(cri: Cri, pod: Pod, box: Container) -> None:
    async with running(cri, pod, "one", "sleep", "1007", linux=SHARED) as one:
        await cri.exec(box, "sh", "-c", "kill $(ps -o pid,args | awk '/[s]leep 1007/ {print $1}')")
        status = await cri.wait_exit(one, 60)

    assert status.exit_code == 143


async def test_orphans_are_reaped_by_the_pod_s_own_process(cri: Cri, pod: Pod, box: Container) -> None:
    script = "(sleep 0.1 & echo $! > /tmp/orphan); echo ready; exec sleep 1008"
    async with running(cri, pod, "one", "sh", "-c", script, linux=SHARED) as one:

        async def is_gone() -> bool:
            done = await cri.exec(one, "sh", "-c", "test -s /tmp/orphan && ! test -e /proc/$(cat /tmp/orphan)")
            return done.exit_code == 0

        await eventually_async(is_gone, "the orphan has been waited for", 60)


async def test_a_container_s_end_is_the_end_of_all_its_processes_and_of_no_other_s(
    cri: Cri, pod: Pod, box: Container
) -> None:
    script = "trap 'exit 0' TERM; sleep 1009 & while :; do sleep 0.05; done"
    async with running(cri, pod, "one", "sh", "-c", script, linux=SHARED) as one:

        async def has_child() -> bool:
            return "sleep 1009" in await _processes(cri, box)

        await eventually_async(has_child, "the child runs", 60)
        await cri.stop(one, grace=30)
        assert (await cri.status(one)).exit_code == 0

        async def is_gone() -> bool:
            return not await has_child()

        await eventually_async(is_gone, "the child is gone with its container", 60)
        assert (await cri.exec(box, "echo", "alive")).text == "alive"


async def test_a_container_starts_again_in_the_shared_namespace(cri: Cri, pod: Pod) -> None:
    for code in (1, 2):
        async with running(cri, pod, "one", "sh", "-c", f"exit {code}", linux=SHARED) as one:
            assert (await cri.wait_exit(one)).exit_code == code
