"""Loggers: started as containerd's contract says, ready before they are used, and ended."""

from __future__ import annotations

import errno
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import anyio
import pytest

from sandbox.errors import DeadlineError, FailedPreconditionError, InvalidArgumentError
from shim.stdio import logger
from shim.stdio.logger import Logger
from shim.stdio.target import Scheme, Target

pytestmark = pytest.mark.anyio

# Writes what it got, and what it knows, into the file that its argument names; says that it is ready.
_COPY = """
import os, sys, json
os.write(5, b"1")
os.close(5)
out, err = os.fdopen(3).read(), os.fdopen(4).read()
facts = dict(out=out, err=err, args=sys.argv[1:], id=os.environ["CONTAINER_ID"], ns=os.environ["CONTAINER_NAMESPACE"])
open(sys.argv[2], "w").write(json.dumps(facts))
"""

Make = Callable[..., Target]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    def program(code: str, *arguments: str, scheme: Scheme = Scheme.BINARY) -> Target:
        path = tmp_path / "logger"
        path.write_text(f"#!{sys.executable} -IS\n{code}")
        path.chmod(0o755)
        return Target(scheme, str(path), arguments)

    return program


def _open_fds() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.parametrize("scheme", [Scheme.BINARY, Scheme.BINARY_V2])
async def test_a_logger_gets_both_outputs_and_knows_the_container(make: Make, tmp_path: Path, scheme: Scheme) -> None:
    before = _open_fds()
    one = await Logger.start(make(_COPY, "file", str(tmp_path / "result"), scheme=scheme), "c1", "ns1")
    await one.stdout.write(b"to out")
    await one.stderr.write(b"to err")

    await one.aclose()
    await one.aclose()

    result = (tmp_path / "result").read_text()
    assert '"out": "to out", "err": "to err"' in result
    assert f'"args": ["file", "{tmp_path}/result"], "id": "c1", "ns": "ns1"' in result
    assert _open_fds() == before


async def test_closing_the_pipe_means_ready(make: Make) -> None:
    one = await Logger.start(make("import os; os.close(5); os.read(3, 1)"), "c1", "ns")

    await one.aclose()


async def test_version_2_wants_a_byte(make: Make) -> None:
    with pytest.raises(FailedPreconditionError, match="before it was ready"):
        await Logger.start(make("pass", scheme=Scheme.BINARY_V2), "c1", "ns")


async def test_a_logger_that_is_never_ready_is_an_error(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logger, "READY_TIMEOUT", 0.2)
    before = _open_fds()

    with pytest.raises(DeadlineError, match="not ready"):
        await Logger.start(make("import os; os.read(3, 1)"), "c1", "ns")

    assert _open_fds() == before


async def test_a_logger_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    before = _open_fds()

    with pytest.raises(InvalidArgumentError, match="No such file"):
        await Logger.start(Target(Scheme.BINARY, str(tmp_path / "missing")), "c1", "ns")

    assert _open_fds() == before


async def test_two_ends_at_once_close_no_descriptor_of_others(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    one = await Logger.start(make("import os, time; os.close(5); time.sleep(60)"), "c1", "ns")
    monkeypatch.setattr(logger, "END_TIMEOUT", 0.1)
    closed: list[int] = []
    close = os.close
    monkeypatch.setattr(os, "close", lambda fd: (closed.append(fd), close(fd)))

    with anyio.fail_after(30):
        async with anyio.create_task_group() as group:
            group.start_soon(one.aclose)
            group.start_soon(one.aclose)

    assert len(closed) == len(set(closed))


async def test_a_logger_that_the_kernel_can_not_end_holds_up_nobody(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("END_TIMEOUT", "TERM_TIMEOUT", "KILL_TIMEOUT"):
        monkeypatch.setattr(logger, name, 0.1)
    one = await Logger.start(make("import os, time; os.close(5); time.sleep(60)"), "c1", "ns")
    send = signal.pidfd_send_signal
    sent: list[int] = []
    monkeypatch.setattr(signal, "pidfd_send_signal", lambda _, number: sent.append(number))
    pidfd = os.dup(one._process.fd)
    try:
        with anyio.fail_after(30):
            await one.aclose()
        assert sent == [signal.SIGTERM, signal.SIGKILL]
    finally:
        send(pidfd, signal.SIGKILL)
        os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
        os.close(pidfd)


async def test_without_descriptors_nothing_of_a_logger_stays(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    before, pids = _open_fds(), list[int]()

    def fail(pid: int) -> NoReturn:
        pids.append(pid)
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(os, "pidfd_open", fail)
    with pytest.raises(InvalidArgumentError, match="Too many open files"):
        await Logger.start(make("import time; time.sleep(60)"), "c1", "ns")
    assert os.WTERMSIG(os.waitpid(pids[0], 0)[1]) == signal.SIGKILL
    assert _open_fds() == before


async def test_a_logger_that_died_takes_no_process_with_it(make: Make) -> None:
    one = await Logger.start(make("pass"), "c1", "ns")

    await one.stdout.write(b"x" * 300_000)

    await one.aclose()


@pytest.mark.parametrize("ignores_sigterm", [False, True])
async def test_a_logger_that_does_not_end_is_ended(
    make: Make, monkeypatch: pytest.MonkeyPatch, ignores_sigterm: bool
) -> None:
    monkeypatch.setattr(logger, "END_TIMEOUT", 0.1)
    monkeypatch.setattr(logger, "TERM_TIMEOUT", 0.1)
    ignore = "signal.signal(signal.SIGTERM, signal.SIG_IGN);" if ignores_sigterm else ""
    one = await Logger.start(make(f"import os, signal, time; {ignore} os.close(5); time.sleep(60)"), "c1", "ns")
    started = time.monotonic()

    await one.aclose()

    assert time.monotonic() - started < 5
