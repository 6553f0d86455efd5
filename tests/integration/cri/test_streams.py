"""Streaming exec and attach through containerd's streaming server, and the log that is written beside them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from protos.gen.runtime import v1 as api
from tests.harness.cri import Container, Cri, Pod
from tests.harness.crilog import read_log
from tests.harness.runtimes import KATA
from tests.harness.waiting import eventually_async
from tests.integration.cri.spdy import Outcome, RemoteCommand, streaming
from tests.integration.system.pods import running

pytestmark = [pytest.mark.integration, pytest.mark.anyio]

#: What is expected is what runc does. Under runc itself an attachment misses output now and then, which is not ours.
RUNTIMES = (KATA,)

MIB = 1 << 20

#: Answers each line; `end` ends it with a code of its own.
ANSWERS = ("sh", "-c", 'echo ready; while read line; do [ "$line" = end ] && exit 7; echo "got $line"; done; echo eof')


@asynccontextmanager
async def executing(
    cri: Cri, container: Container, *command: str, stdin: bool = False, tty: bool = False
) -> AsyncIterator[RemoteCommand]:
    """`kubectl exec`."""
    request = api.ExecRequest(
        container_id=container.id, cmd=list(command), stdin=stdin, tty=tty, stdout=True, stderr=not tty
    )
    url = (await cri.runtime.exec(request, timeout=60)).url
    async with streaming(url, stdin=stdin, tty=tty) as remote:
        yield remote


@asynccontextmanager
async def attached(
    cri: Cri, container: Container, *, stdin: bool = True, tty: bool = False
) -> AsyncIterator[RemoteCommand]:
    """`kubectl attach`."""
    request = api.AttachRequest(container_id=container.id, stdin=stdin, tty=tty, stdout=True, stderr=not tty)
    url = (await cri.runtime.attach(request, timeout=60)).url
    async with streaming(url, stdin=stdin, tty=tty) as remote:
        yield remote


async def test_a_command_s_outputs_come_apart_and_whole_and_its_code_last(cri: Cri, box: Container) -> None:
    script = "head -c 1048576 /dev/urandom > /tmp/x; cat /tmp/x; sha256sum < /tmp/x >&2; rm /tmp/x; exit 9"
    async with executing(cri, box, "sh", "-c", script) as remote:
        outcome = await remote.outcome()

    assert (outcome.exit_code, len(remote.stdout)) == (9, MIB)
    assert remote.stderr.split()[0].decode() == hashlib.sha256(remote.stdout).hexdigest()


async def test_a_command_without_input_goes_on_after_its_first_output(cri: Cri, box: Container) -> None:
    async with executing(cri, box, "sh", "-c", "echo first; sleep 0.5; echo second; cat; echo end") as remote:
        assert await remote.outcome() == Outcome(0)

    assert remote.stdout == b"first\nsecond\nend\n"


async def test_input_arrives_whole_and_its_end_too(cri: Cri, box: Container) -> None:
    data = os.urandom(MIB + 5)
    async with executing(cri, box, "sha256sum", stdin=True) as remote:
        await remote.write(data)
        await remote.close_stdin()
        assert await remote.outcome() == Outcome(0)

    assert remote.stdout.split()[0].decode() == hashlib.sha256(data).hexdigest()


async def test_input_that_nobody_reads_does_not_hold_up_the_end(cri: Cri, box: Container) -> None:
    async with executing(cri, box, "sh", "-c", "exit 4", stdin=True) as remote:
        assert (await remote.outcome()).exit_code == 4


async def test_a_command_that_is_missing_is_an_error_of_the_stream(cri: Cri, box: Container) -> None:
    async with executing(cri, box, "no-such-program") as remote:
        outcome = await remote.outcome()

    assert "executable file not found in $PATH" in outcome.message


async def test_a_terminal_has_a_size_an_echo_and_keys(cri: Cri, box: Container) -> None:
    async with executing(cri, box, "sh", stdin=True, tty=True) as remote:
        await remote.resize(111, 33)
        await remote.write(b"echo $TERM; trap 'echo resized' WINCH\n")
        await remote.shows(b"\nxterm\r\n")
        await remote.resize(122, 44)
        await _until_size(remote, b"44 122")
        assert b"echo $TERM; trap 'echo resized' WINCH\r\n" in remote.stdout
        await remote.write(b"sh -c 'echo to be interrupted $((1 + 1)); exec sleep 1005'\n")
        await remote.shows(b"to be interrupted 2")
        await remote.write(b"\x03")
        await remote.write(b"exit 5\n")
        assert (await remote.outcome()).exit_code == 5


async def _until_size(remote: RemoteCommand, size: bytes) -> None:
    """Ask until the terminal has the size: it is told beside the keys."""
    await remote.write(b"until stty size | grep -q '" + size + b"'; do sleep 0.1; done; echo it is $((40 + 2))\n")
    await remote.shows(b"it is 42")


async def test_whoever_attaches_again_goes_on_where_the_last_one_left(cri: Cri, pod: Pod) -> None:
    async with running(cri, pod, "one", *ANSWERS, stdin=True) as one:
        for word in (b"one", b"two", b"three"):
            async with attached(cri, one) as remote:
                await remote.write(word + b"\n")
                await remote.shows(b"got " + word)
        async with attached(cri, one) as remote:
            await remote.write(b"end\n")
            assert await remote.outcome() == Outcome(0)
        status = await cri.wait_exit(one)

        assert status.exit_code == 7
        assert [line.text for line in one.log()] == ["ready", "got one", "got two", "got three"]


async def test_two_may_watch_and_both_see_it(cri: Cri, pod: Pod) -> None:
    async with (
        running(cri, pod, "one", *ANSWERS, stdin=True) as one,
        attached(cri, one) as first,
        attached(cri, one, stdin=False) as second,
    ):

        async def second_sees() -> bool:
            # containerd answers before it listens: what is said in between is for those who came before.
            await first.write(b"word\n")
            return b"got word" in second.stdout

        await eventually_async(second_sees, "the second sees it too", interval=0.2)
        await first.shows(b"got word")
        await first.write(b"end\n")
        assert await second.outcome() == Outcome(0)


async def test_input_that_is_open_once_ends_with_the_first_who_leaves(cri: Cri, pod: Pod) -> None:
    async with running(cri, pod, "one", *ANSWERS, stdin=True, stdin_once=True) as one:
        async with attached(cri, one) as remote:
            await remote.write(b"word\n")
            await remote.shows(b"got word")
            await remote.close_stdin()
            await remote.shows(b"eof")
        status = await cri.wait_exit(one)

        assert status.exit_code == 0


async def test_a_container_s_terminal_is_shared_by_who_attaches_and_the_log(cri: Cri, pod: Pod) -> None:
    async with running(cri, pod, "one", "sh", tty=True, stdin=True) as one:
        async with attached(cri, one, tty=True) as remote:
            await remote.resize(99, 22)
            await _until_size(remote, b"22 99")
        async with attached(cri, one, tty=True) as remote:
            await remote.write(b"stty size; exit 6\n")
            await remote.shows(b"22 99")
        status = await cri.wait_exit(one)

        assert status.exit_code == 6
        assert "22 99" in [line.text.rstrip("\r") for line in one.log()]


async def test_a_log_that_is_rotated_loses_nothing(cri: Cri, pod: Pod) -> None:
    script = "n=0; while [ ! -e /tmp/stop ]; do n=$((n + 1)); echo line $n; echo err $n >&2; done; echo last $n"
    async with running(cri, pod, "one", "sh", "-c", script) as one:
        old = [one.log_path.with_suffix(f".log.{number}") for number in range(3)]
        for path in old:
            await eventually_async(lambda: _has_lines(one), "the container has logged", 60)
            one.log_path.rename(path)
            await cri.runtime.reopen_container_log(api.ReopenContainerLogRequest(container_id=one.id), timeout=60)
        await eventually_async(lambda: _has_lines(one), "the container has logged", 60)
        await cri.exec(one, "touch", "/tmp/stop")
        await cri.wait_exit(one, 60)

        lines = [line for path in (*old, one.log_path) for line in read_log(path)]
    said = [line.text for line in lines if line.stream == "stdout"]
    count = len(said) - 1
    assert said == [*(f"line {n}" for n in range(1, count + 1)), f"last {count}"]
    assert [line.text for line in lines if line.stream == "stderr"] == [f"err {n}" for n in range(1, count + 1)]


async def _has_lines(container: Container) -> bool:
    return container.log_path.exists() and container.log_path.stat().st_size > 2000


async def test_the_end_of_an_output_without_a_new_line_is_logged(cri: Cri, pod: Pod) -> None:
    async with running(cri, pod, "one", "printf", "%s", "no new line") as one:
        await cri.wait_exit(one)

        assert [line.text for line in one.log()] == ["no new line"]
