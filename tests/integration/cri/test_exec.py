"""ExecSync: codes, outputs, time, what is refused, and who comes along."""

from __future__ import annotations

import asyncio

import pytest
from grpclib.const import Status
from grpclib.exceptions import GRPCError

from protos.gen.runtime import v1 as api
from tests.harness.cri import Container, Cri, Pod
from tests.harness.waiting import eventually_async
from tests.integration.system.pods import linux, running

pytestmark = [pytest.mark.integration, pytest.mark.anyio]

#: As many as are run at once.
MANY = 20


@pytest.mark.parametrize(
    ("script", "code"), [("exit 0", 0), ("exit 3", 3), ("exit 255", 255), ("kill -TERM $$", 143), ("kill -9 $$", 137)]
)
async def test_the_code_is_the_command_s_or_names_the_signal(cri: Cri, box: Container, script: str, code: int) -> None:
    assert (await cri.exec(box, "sh", "-c", script)).exit_code == code


async def test_outputs_are_apart(cri: Cri, box: Container) -> None:
    done = await cri.exec(box, "sh", "-c", "echo out; echo err >&2; printf end")

    assert (done.stdout, done.stderr) == (b"out\nend", b"err\n")


async def test_a_command_without_input_reads_the_end_of_it(cri: Cri, box: Container) -> None:
    done = await cri.exec(box, "sh", "-c", "cat; echo $?")

    assert done.stdout == b"0\n"


async def test_a_command_has_environment_and_directory_of_its_container(cri: Cri, pod: Pod) -> None:
    envs = [api.KeyValue(key="GREETING", value=b"good day")]
    async with running(cri, pod, "one", envs=envs, working_dir="/home/app") as one:
        done = await cri.exec(one, "sh", "-c", 'echo "$GREETING"; pwd; echo "$HOME"; echo "$HOSTNAME"; echo "$PATH"')

    assert done.text.splitlines() == [
        "good day", "/home/app", "/root", pod.config.hostname, "/usr/sbin:/usr/bin:/sbin:/bin",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("no-such-program", 'exec: "no-such-program": executable file not found in $PATH'),
        ("/no/such/program", "no such file or directory"),
        ("/etc/passwd", "permission denied"),
        ("/etc", "permission denied"),
    ],
)
async def test_what_cannot_be_run_is_refused_by_name(cri: Cri, box: Container, program: str, reason: str) -> None:
    with pytest.raises(GRPCError) as refused:
        await cri.exec(box, program)

    assert program in (refused.value.message or "")
    assert reason in (refused.value.message or "")
    assert (await cri.exec(box, "echo", "alive")).text == "alive"


async def test_a_command_past_its_time_is_killed(cri: Cri, box: Container) -> None:
    with pytest.raises(GRPCError) as refused:
        await cri.exec(box, "sleep", "1001", timeout=1)

    assert refused.value.status is Status.DEADLINE_EXCEEDED
    assert "timeout 1s exceeded" in (refused.value.message or "")
    assert "sleep 1001" not in (await cri.exec(box, "ps", "-o", "args")).text


async def test_many_commands_at_once(cri: Cri, box: Container) -> None:
    done = await asyncio.gather(
        *(cri.exec(box, "sh", "-c", f"echo number {n}; exit {n}", timeout=200) for n in range(MANY))
    )

    assert [(one.exit_code, one.text) for one in done] == [(n, f"number {n}") for n in range(MANY)]


async def test_nothing_runs_in_a_container_that_has_ended_or_is_not_started(cri: Cri, pod: Pod) -> None:
    created = await cri.create(pod, "created", ["true"], linux=linux())
    async with running(cri, pod, "ended", "true") as ended:
        await cri.wait_exit(ended)
        for container, state in ((created, "CONTAINER_CREATED"), (ended, "CONTAINER_EXITED")):
            with pytest.raises(GRPCError) as refused:
                await cri.exec(container, "true")
            assert state in (refused.value.message or "")
    await cri.remove(created)


async def test_a_command_ends_with_its_container(cri: Cri, pod: Pod) -> None:
    async with running(cri, pod, "one") as one:
        command = asyncio.create_task(cri.exec(one, "sh", "-c", "trap '' TERM; while :; do sleep 1; done"))

        async def runs() -> bool:
            return "trap '' TERM" in (await cri.exec(one, "ps", "-o", "args")).text

        await eventually_async(runs, "the command runs", 60)
        await cri.stop(one, grace=0)

        assert (await asyncio.wait_for(command, 60)).exit_code == 137


async def test_arguments_and_environment_may_be_as_long_as_the_kernel_allows(
    cri: Cri, pod: Pod, box: Container
) -> None:
    # MAX_ARG_STRLEN, with the NUL at its end.
    longest = "x" * ((128 << 10) - 1)
    script = 'echo "${#0} ${#BIG} ${#MANY0} ${#MANY99}"'
    envs = [api.KeyValue(key=f"MANY{n}", value=b"y" * 1000) for n in range(100)]
    big = api.KeyValue(key="BIG", value=longest[4:].encode())
    async with running(cri, pod, "big", "sh", "-c", script, longest, envs=[*envs, big]) as one:
        status = await cri.wait_exit(one)
        said = [line.text for line in one.log()]

    assert (status.exit_code, said) == (0, [f"{len(longest)} {len(longest) - 4} 1000 1000"])
    assert (await cri.exec(box, "sh", "-c", "echo ${#0}", longest)).text == str(len(longest))
