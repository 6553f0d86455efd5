"""A container from start to end as CRI tells it: codes and reasons, stopping, failing to start, starting again."""

from __future__ import annotations

import asyncio
import time

import pytest
from grpclib.exceptions import GRPCError

from protos.gen.runtime import v1 as api
from tests.harness.cri import Container, Cri, Pod
from tests.harness.waiting import eventually_async
from tests.integration.cri.conftest import ANNOTATIONS, LABELS
from tests.integration.cri.images import EMPTY, FULL
from tests.integration.system.pods import STAY, linux, output, running

pytestmark = [pytest.mark.integration, pytest.mark.anyio]


#: Containers of a pod at the same time.
MANY = 8


@pytest.mark.parametrize(("script", "code", "reason"), [("exit 0", 0, "Completed"), ("exit 3", 3, "Error")])
async def test_an_end_has_a_code_a_reason_and_times(cri: Cri, pod: Pod, script: str, code: int, reason: str) -> None:
    before = time.time_ns()
    async with running(cri, pod, "one", "sh", "-c", script) as one:
        status = await cri.wait_exit(one)

    assert (status.exit_code, status.reason) == (code, reason)
    # containerd takes the last two at different places, so a short life may end before it began.
    assert before < status.created_at < min(status.started_at, status.finished_at)
    assert max(status.started_at, status.finished_at) < time.time_ns()


@pytest.mark.parametrize(("signal", "code"), [("KILL", 137), ("TERM", 143), ("SEGV", 139)])
async def test_an_end_by_a_signal_is_its_number_and_128(cri: Cri, pod: Pod, signal: str, code: int) -> None:
    # A shell that is not the first process, and so may be killed from inside; its end is the container's.
    script = f"sh -c 'kill -{signal} $$'; exit $?"
    async with running(cri, pod, "one", "sh", "-c", script) as one:
        status = await cri.wait_exit(one)

    assert (status.exit_code, status.reason) == (code, "Error")


async def test_too_much_memory_is_a_reason_of_its_own(cri: Cri, pod: Pod) -> None:
    resources = api.LinuxContainerResources(memory_limit_in_bytes=32 << 20)
    async with running(cri, pod, "one", "tail", "/dev/zero", linux=linux(resources=resources)) as one:
        status = await cri.wait_exit(one, 60)

    assert (status.exit_code, status.reason) == (137, "OOMKilled")


async def _ready(container: Container) -> bool:
    return bool(container.log())


async def test_the_image_says_by_which_signal_it_is_stopped(cri: Cri, pod: Pod) -> None:
    script = "trap 'echo usr1; exit 12' USR1; trap 'echo term' TERM; echo ready; while :; do sleep 0.05; done"
    async with running(cri, pod, "one", "sh", "-c", script, image=FULL) as one:
        await eventually_async(lambda: _ready(one), "it has set its handlers", 60)
        await cri.stop(one, grace=60)

        status = await cri.status(one)
        assert (status.exit_code, [line.text for line in one.log()]) == (12, ["ready", "usr1"])


async def test_who_does_not_hear_is_killed_after_the_grace_with_all_its_children(cri: Cri, pod: Pod) -> None:
    script = "trap '' TERM; sleep 1003 & echo ready; while :; do sleep 0.05; done"
    async with running(cri, pod, "one", "sh", "-c", script) as one:
        await eventually_async(lambda: _ready(one), "it has set its handlers", 60)
        began = time.monotonic()
        await cri.stop(one, grace=2)

        assert time.monotonic() - began >= 2
        status = await cri.status(one)
        assert (status.exit_code, status.reason) == (137, "Error")


async def test_a_container_stopped_twice_or_after_its_end_is_stopped(cri: Cri, pod: Pod) -> None:
    async with running(cri, pod, "one", "sh", "-c", "exit 2") as one:
        await cri.wait_exit(one)
        await cri.stop(one)
        await cri.stop(one)

        assert (await cri.status(one)).exit_code == 2


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("no-such-program", "executable file not found in $PATH"),
        ("/no/such/program", "no such file or directory"),
        ("/etc/passwd", "permission denied"),
    ],
)
async def test_a_program_that_cannot_be_run_is_a_start_error(cri: Cri, pod: Pod, program: str, reason: str) -> None:
    one = await cri.create(pod, "wrong", [program], linux=linux())
    with pytest.raises(GRPCError) as refused:
        await cri.start(one)
    status = await cri.status(one)
    await cri.remove(one)

    assert reason in (refused.value.message or "")
    assert (status.state, status.exit_code) == (api.ContainerState.CONTAINER_EXITED, 128)
    assert (status.reason, reason in status.message, program in status.message) == ("StartError", True, True)


async def test_a_directory_that_is_not_there_is_made(cri: Cri, pod: Pod) -> None:
    assert await output(cri, pod, "one", "pwd", working_dir="/not/yet/there") == "/not/yet/there"


async def test_an_image_with_nothing_to_run_needs_a_command(cri: Cri, pod: Pod) -> None:
    with pytest.raises(GRPCError) as refused:
        await cri.create(pod, "nothing", [], image=EMPTY, linux=linux())

    assert "no command specified" in (refused.value.message or "")
    assert await output(cri, pod, "something", "echo", "something", image=EMPTY) == "something"


async def test_a_container_takes_from_its_image_what_it_does_not_say(cri: Cri, pod: Pod) -> None:
    async def said(name: str, **settings: object) -> str:
        one = await cri.create(pod, name, settings.pop("command", ()), image=FULL, linux=linux(), **settings)  # type: ignore[arg-type]
        await cri.start(one)
        await cri.wait_exit(one)
        text = "\n".join(line.text for line in one.log())
        await cri.remove(one)
        return text

    script = "echo $COLOUR $SHAPE; pwd; id -un; id -g; cat /data/of-image"
    green = [api.KeyValue(key="COLOUR", value=b"green")]
    assert await said("image-all") == "entrypoint command"
    assert await said("image-args", args=["argument"]) == "entrypoint argument"
    assert await said("image-command", command=["echo", "mine"]) == "mine"
    assert await said("image-rest", command=["sh", "-c", script], envs=green) == "\n".join(
        ["green round", "/home/app", "app", "1000", "from the image"]
    )


async def test_a_container_starts_again_in_a_living_pod_with_files_of_its_own(cri: Cri, pod: Pod) -> None:
    for attempt in range(3):
        metadata = api.ContainerMetadata(name="again", attempt=attempt)
        script = f"test ! -e /marker && touch /marker && exit {attempt}"
        async with running(cri, pod, "again", "sh", "-c", script, metadata=metadata) as one:
            assert (await cri.wait_exit(one)).exit_code == attempt


async def test_many_containers_live_in_a_pod(cri: Cri, pod: Pod) -> None:
    async def one_of_them(number: int) -> str:
        async with running(cri, pod, "many") as one, barrier:
            return (await cri.exec(one, "echo", str(number), timeout=200)).text

    barrier = asyncio.Barrier(MANY)
    assert await asyncio.gather(*map(one_of_them, range(MANY))) == [str(number) for number in range(MANY)]


async def test_orphans_are_the_first_process_s_to_wait_for(cri: Cri, pod: Pod) -> None:
    script = "(sleep 0.1 & echo $! > /tmp/orphan); echo ready; exec sleep 1004"
    async with running(cri, pod, "one", "sh", "-c", script) as one:
        await eventually_async(lambda: _ready(one), "the orphan is there", 60)

        async def is_zombie() -> bool:
            return "State:\tZ" in (await cri.exec(one, "sh", "-c", "cat /proc/$(cat /tmp/orphan)/status")).text

        await eventually_async(is_zombie, "the orphan of a first process that does not wait is a zombie", 60)


async def test_the_status_of_a_pod_tells_what_was_asked_for(cri: Cri, pod: Pod) -> None:
    status = await cri.pod_status(pod)

    assert (status.labels, status.annotations) == (LABELS, ANNOTATIONS)
    assert status.state is api.PodSandboxState.SANDBOX_READY
    assert status.runtime_handler == cri.handler.name


async def test_status_and_list_tell_what_was_asked_for(cri: Cri, pod: Pod) -> None:
    labels, annotations = {"app": "one"}, {"note": "some text"}
    hosts = api.Mount(container_path="/mnt/hosts", host_path="/etc/hosts", readonly=True)
    async with running(cri, pod, "one", *STAY, labels=labels, annotations=annotations, mounts=[hosts]) as one:
        status = await cri.status(one)
        request = api.ListContainersRequest(filter=api.ContainerFilter(label_selector=labels))
        listed = (await cri.runtime.list_containers(request, timeout=60)).containers

    assert status.state is api.ContainerState.CONTAINER_RUNNING
    assert (status.labels, status.annotations) == (labels, annotations)
    assert status.mounts == [hosts]
    assert status.log_path == str(one.log_path)
    assert [(item.id, item.pod_sandbox_id, item.state) for item in listed] == [
        (one.id, pod.id, api.ContainerState.CONTAINER_RUNNING)
    ]
