"""Standard streams: nothing is lost, nothing is out of order, nobody waits for somebody who is not there."""

from __future__ import annotations

import asyncio
import hashlib
import os
import select
import subprocess
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from protos.gen.containerd.task.v2 import TaskStub
from tests.harness import processes
from tests.harness.waiting import eventually
from tests.integration.system import specs
from tests.integration.system.task import Exec, Reader, Writer, make_fifos
from tests.integration.system.vm import Vm

pytestmark = [pytest.mark.integration, pytest.mark.anyio]

MIB = 1 << 20


@pytest.fixture
def container(vm: Vm) -> Iterator[str]:
    """A container that stays, with a directory of the host's at /data."""
    data = vm.bed.directory / "data"
    data.mkdir(exist_ok=True)
    with vm.container(mounts=[specs.bind(data, "/data")]) as one:
        yield one


@pytest.fixture
async def task(vm: Vm) -> AsyncIterator[TaskStub]:
    """A client of the shim."""
    async with vm.task() as client:
        yield client


def _blob(vm: Vm, name: str, size: int) -> str:
    """Random bytes as /data/`name` of the container; returns their hash."""
    data = os.urandom(size)
    (vm.bed.directory / "data" / name).write_bytes(data)
    return hashlib.sha256(data).hexdigest()


def test_everything_that_a_container_writes_before_it_exits_at_once_arrives(vm: Vm) -> None:
    data = vm.bed.directory / "data"
    data.mkdir(exist_ok=True)
    digest = _blob(vm, "blob", 8 * MIB)

    done = vm.run_spec("cat", "/data/blob", mounts=[specs.bind(data, "/data")])

    assert done.returncode == 0, done.error_text
    assert len(done.stdout) == 8 * MIB
    assert hashlib.sha256(done.stdout).hexdigest() == digest


def test_everything_that_an_exec_writes_to_both_outputs_arrives(vm: Vm, container: str) -> None:
    digest = _blob(vm, "blob", 4 * MIB)

    done = vm.exec(container, "sh", "-c", "cat /data/blob & cat /data/blob >&2; wait")

    assert done.returncode == 0
    assert [hashlib.sha256(stream).hexdigest() for stream in (done.stdout, done.stderr)] == [digest, digest]


def test_a_large_input_comes_back_whole_however_slow_its_reader_is(vm: Vm, container: str) -> None:
    data = os.urandom(20 * MIB)
    command = vm.ctr.command("task", "exec", "--exec-id", vm.new_id(), container, "cat")
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as client:
        assert client.stdin is not None
        assert client.stdout is not None
        os.set_blocking(client.stdin.fileno(), False)

        sent = _write_until_it_stops(client.stdin.fileno(), data)
        # Nothing was read yet: what is under way is in pipes, not in somebody's memory.
        assert sent < 4 * MIB
        received = _exchange(client, memoryview(data)[sent:])

        assert client.wait(30) == 0
    assert hashlib.sha256(received).digest() == hashlib.sha256(data).digest()


def _write_until_it_stops(fd: int, data: bytes, still: float = 1.0) -> int:
    """Write until nothing is taken for `still` seconds; returns how much was."""
    sent = 0
    while sent < len(data) and select.select([], [fd], [], still)[1]:
        sent += os.write(fd, data[sent : sent + 65536])
    return sent


def _exchange(client: subprocess.Popen[bytes], rest: memoryview, timeout: float = 60.0) -> bytes:
    """Write the rest of the input, end it, and read all output, side by side."""
    assert client.stdin is not None
    assert client.stdout is not None
    source, sink = client.stdout.fileno(), client.stdin.fileno()
    received = bytearray()
    deadline = time.monotonic() + timeout
    while (left := deadline - time.monotonic()) > 0:
        readable, writable, _ = select.select([source], [sink] if rest else [], [], left)
        if writable:
            rest = rest[os.write(sink, rest[:65536]) :]
            if not rest:
                client.stdin.close()
        if readable:
            chunk = os.read(source, 65536)
            if not chunk:
                return bytes(received)
            received += chunk
    raise AssertionError(f"{len(received)} bytes came back within {timeout:g} s, {len(rest)} were not taken")


async def test_a_process_without_input_is_at_its_end(vm: Vm, container: str, task: TaskStub, tmp_path: Path) -> None:
    (out,) = make_fifos(tmp_path, "out")
    reader = Reader(out)
    exec_ = Exec(task, container, vm.new_id(), "sh", "-c", "cat; echo ended", stdout=out)

    assert await exec_.run() == 0

    assert await reader.read_all() == b"ended\n"
    reader.close()


async def test_an_input_that_nobody_opens_is_waited_for_until_it_is_closed(
    vm: Vm, container: str, task: TaskStub, tmp_path: Path
) -> None:
    stdin, out = make_fifos(tmp_path, "in", "out")
    reader = Reader(out)
    exec_ = Exec(task, container, vm.new_id(), "sh", "-c", "echo waiting; cat; echo ended", stdin=stdin, stdout=out)
    await exec_.start()
    await reader.read_until(b"waiting\n")

    await exec_.close_stdin()

    assert await exec_.wait() == 0
    await exec_.delete()
    assert await reader.read_all() == b"waiting\nended\n"
    reader.close()


async def test_clients_of_an_input_come_and_go_until_it_is_closed_behind_what_they_wrote(
    vm: Vm, container: str, task: TaskStub, tmp_path: Path
) -> None:
    stdin, out = make_fifos(tmp_path, "in", "out")
    reader = Reader(out)
    exec_ = Exec(task, container, vm.new_id(), "cat", stdin=stdin, stdout=out)
    await exec_.start()
    for text in (b"one\n", b"two\n"):
        writer = Writer(stdin)
        await writer.write(text)
        writer.close()
        await reader.read_until(text)
    last = os.urandom(40_000)
    writer = Writer(stdin)
    await writer.write(last)

    await exec_.close_stdin()

    assert await exec_.wait() == 0
    writer.close()
    await exec_.delete()
    assert await reader.read_all() == b"one\ntwo\n" + last
    reader.close()


async def test_a_closed_input_may_be_closed_again_and_also_before_the_start(
    vm: Vm, container: str, task: TaskStub, tmp_path: Path
) -> None:
    (stdin,) = make_fifos(tmp_path, "in")
    exec_ = Exec(task, container, vm.new_id(), "cat", stdin=stdin)
    await exec_.add()
    await exec_.close_stdin()
    await exec_.close_stdin()
    await exec_.start_added()

    assert await exec_.wait() == 0
    await exec_.delete()


async def test_a_grandchild_that_keeps_the_output_holds_nobody_up_and_is_heard_later(
    vm: Vm, container: str, task: TaskStub, tmp_path: Path
) -> None:
    go = vm.bed.directory / "data" / "go"
    go.unlink(missing_ok=True)
    (out,) = make_fifos(tmp_path, "out")
    reader = Reader(out)
    script = "(until [ -e /data/go ]; do sleep 0.1; done; echo late) & echo early; exit 4"
    exec_ = Exec(task, container, vm.new_id(), "sh", "-c", script, stdout=out)
    await exec_.start()

    assert await asyncio.wait_for(exec_.wait(), 5) == 4
    assert await reader.read_until(b"early\n") == b"early\n"
    go.touch()

    assert await reader.read_until(b"late\n") == b"early\nlate\n"
    assert await reader.read_all() == b"early\nlate\n"
    await exec_.delete()
    reader.close()
    go.unlink()


async def test_deletion_does_not_wait_for_a_grandchild(vm: Vm, container: str, task: TaskStub, tmp_path: Path) -> None:
    (out,) = make_fifos(tmp_path, "out")
    reader = Reader(out)
    exec_ = Exec(task, container, vm.new_id(), "sh", "-c", "sleep 1000 & echo early", stdout=out)
    await exec_.start()
    assert await asyncio.wait_for(exec_.wait(), 5) == 0

    began = time.monotonic()
    await exec_.delete()

    assert time.monotonic() - began < 3
    assert await reader.read_all() == b"early\n"
    reader.close()


async def test_a_reader_that_goes_away_misses_nothing_when_it_is_back(
    vm: Vm, container: str, task: TaskStub, tmp_path: Path
) -> None:
    (out,) = make_fifos(tmp_path, "out")
    count = 60_000
    exec_ = Exec(task, container, vm.new_id(), "seq", "1", str(count), stdout=out)
    first = Reader(out)
    await exec_.start()
    await first.read_until(b"\n100\n")
    first.close()

    second = Reader(out)
    await second.read()
    second.close()
    third = Reader(out)

    status, rest = await asyncio.gather(exec_.wait(), third.read_all())
    assert status == 0
    await exec_.delete()
    lines = (first.data + second.data + rest).decode().split("\n")
    assert lines == [*map(str, range(1, count + 1)), ""]
    third.close()


def test_clients_attach_and_go_and_miss_nothing(vm: Vm) -> None:
    container = vm.new_id()
    script = "n=0; while [ $n -lt 400 ]; do n=$((n+1)); echo $n; done; while read x; do echo got $x; done"
    flags = ("--detach", *vm.annotation_flags)
    vm.ctr.run(container, "sh", "-c", script, options=flags).check()
    try:
        seen = b""
        for typed, last in ((b"one\n", b"got one\n"), (b"two\n", b"got two\n")):
            command = vm.ctr.command("task", "attach", container)
            with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as client:
                try:
                    seen += _converse(client, typed, last)
                finally:
                    client.kill()

        assert seen.decode().split("\n") == [*map(str, range(1, 401)), "got one", "got two", ""]
        assert vm.ctr.tasks()[container] == "RUNNING"
    finally:
        vm.ctr.remove(container)


def _converse(client: subprocess.Popen[bytes], typed: bytes, last: bytes, timeout: float = 30.0) -> bytes:
    """Write, and read until `last` comes; returns all that was read."""
    assert client.stdin is not None
    assert client.stdout is not None
    client.stdin.write(typed)
    client.stdin.flush()
    seen = b""
    deadline = time.monotonic() + timeout
    while not seen.endswith(last):
        left = deadline - time.monotonic()
        assert left > 0, f"{last!r} did not come, only {seen[-200:]!r}"
        if select.select([client.stdout], [], [], left)[0]:
            seen += os.read(client.stdout.fileno(), 65536)
    return seen


async def test_an_output_that_nobody_ever_reads_does_not_keep_a_quiet_process_from_its_end(
    vm: Vm, container: str, task: TaskStub, tmp_path: Path
) -> None:
    out, err = make_fifos(tmp_path, "out", "err")
    exec_ = Exec(task, container, vm.new_id(), "sh", "-c", "echo unheard; exit 6", stdout=out, stderr=err)

    began = time.monotonic()
    assert await exec_.run() == 6

    assert time.monotonic() - began < 10


async def test_many_execs_leave_no_descriptor_and_no_thread(
    vm: Vm, container: str, task: TaskStub, tmp_path: Path
) -> None:
    async def cycle(number: int) -> None:
        stdin, out, err = make_fifos(tmp_path, *(f"{number}-{name}" for name in ("in", "out", "err")))
        readers = Reader(out), Reader(err)
        script = "echo to out; echo to err >&2"
        exec_ = Exec(task, container, vm.new_id(), "sh", "-c", script, stdin=stdin, stdout=out, stderr=err)
        assert await exec_.run() == 0
        assert [await reader.read_all() for reader in readers] == [b"to out\n", b"to err\n"]
        for reader in readers:
            reader.close()

    daemon = vm.daemon()
    for number in range(5):
        await cycle(number)
    before = _belongings(daemon)

    for batch in range(10):
        await asyncio.gather(*(cycle(100 + 5 * batch + number) for number in range(5)))

    # QEMU's own threads for I/O come and go.
    eventually(lambda: not _belongings(daemon) - before, "no more descriptors and threads than before", timeout=15)


def _belongings(daemon: processes.Process) -> Counter[str]:
    """Numbers of descriptors and threads of the daemon and of each of its children."""
    counts: Counter[str] = Counter()
    for process in (daemon, *processes.descendants([daemon.pid])):
        directory = Path("/proc") / str(process.pid)
        counts[f"{process.name} {process.pid} descriptors"] = len(os.listdir(directory / "fd"))
        counts[f"{process.name} {process.pid} threads"] = len(os.listdir(directory / "task"))
    return counts


_BOTH = "n=0; while [ $n -lt 500 ]; do n=$((n+1)); echo out $n; echo err $n >&2; done"


def test_a_log_file_gets_both_outputs_each_in_its_order(vm: Vm, tmp_path: Path) -> None:
    log = tmp_path / "made" / "for it" / "x.log"

    vm.run("sh", "-c", _BOTH, options=("--log-uri", f"file://{str(log).replace(' ', '%20')}")).check()

    lines = log.read_text().splitlines()
    assert len(lines) == 1000
    for stream in ("out", "err"):
        numbers = [int(line.split()[1]) for line in lines if line.startswith(stream)]
        assert numbers == list(range(1, 501))


def test_a_logger_gets_both_outputs_and_the_container_s_name(vm: Vm, tmp_path: Path) -> None:
    logger = tmp_path / "logger"
    logger.write_text(
        "#!/bin/sh\n"
        'echo "$1=$2 $CONTAINER_NAMESPACE $CONTAINER_ID" > "$2/called"\n'
        'exec 5>&-\ncat <&3 > "$2/out" & cat <&4 > "$2/err"; wait\n'
    )
    logger.chmod(0o755)
    container = vm.new_id()

    vm.run("sh", "-c", _BOTH, options=("--log-uri", f"binary://{logger}?to={tmp_path}"), container=container).check()

    assert (tmp_path / "called").read_text() == f"to={tmp_path} default {container}\n"
    for stream in ("out", "err"):
        assert (tmp_path / stream).read_text() == "".join(f"{stream} {number}\n" for number in range(1, 501))


def test_a_logger_that_cannot_be_run_is_named_and_leaves_nothing(vm: Vm, tmp_path: Path) -> None:
    done = vm.run("true", options=("--log-uri", f"binary://{tmp_path}/no-logger"))

    assert done.returncode != 0
    assert f"{tmp_path}/no-logger" in done.error_text
