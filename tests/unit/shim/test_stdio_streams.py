"""The streams of a process together."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from sandbox.errors import InvalidArgumentError
from sandbox.interface import StdioUris
from shim.stdio.streams import ProcessStdio, StdioOpener

pytestmark = pytest.mark.anyio


@pytest.fixture
def fifos(tmp_path: Path) -> dict[str, str]:
    paths = {name: str(tmp_path / name) for name in ("stdin", "stdout", "stderr")}
    for path in paths.values():
        os.mkfifo(path)
    return paths


def _open_fds() -> int:
    return len(os.listdir("/proc/self/fd"))


def _reader(path: str) -> int:
    return os.open(path, os.O_RDONLY | os.O_NONBLOCK)


async def test_three_fifos(fifos: dict[str, str]) -> None:
    before = _open_fds()
    stdio = await StdioOpener("ns")("c1", StdioUris(**fifos))
    out, err = _reader(fifos["stdout"]), _reader(fifos["stderr"])
    client = os.open(fifos["stdin"], os.O_WRONLY)
    os.write(client, b"question")

    assert stdio.has_stdin
    assert await stdio.read_stdin(100) == b"question"
    stdio.close_stdin()
    assert await stdio.read_stdin(100) == b""
    await stdio.write_stdout(b"answer")
    await stdio.write_stderr(b"complaint")
    await stdio.aclose()
    await stdio.aclose()

    assert os.read(out, 100) == b"answer"
    assert os.read(err, 100) == b"complaint"
    for fd in (out, err, client):
        os.close(fd)
    assert _open_fds() == before


async def test_none_at_all() -> None:
    stdio = await ProcessStdio.open("c1", "ns", StdioUris())

    assert not stdio.has_stdin
    assert await stdio.read_stdin(1) == b""
    await stdio.write_stdout(b"x" * 300_000)
    await stdio.write_stderr(b"x")
    stdio.close_stdin()
    await stdio.aclose()


async def test_a_terminal_has_one_output(fifos: dict[str, str]) -> None:
    stdio = await ProcessStdio.open("c1", "ns", StdioUris(**fifos, terminal=True))
    err = _reader(fifos["stderr"])

    await stdio.write_stderr(b"x")

    assert os.read(err, 100) == b""
    os.close(err)
    await stdio.aclose()


@pytest.mark.parametrize("stderr", ["", "same"])
async def test_a_log_file_gets_both_outputs_in_order(tmp_path: Path, stderr: str) -> None:
    uri = f"file://{tmp_path}/x.log"
    stdio = await ProcessStdio.open("c1", "ns", StdioUris(stdout=uri, stderr=uri if stderr else ""))

    await stdio.write_stdout(b"one ")
    await stdio.write_stderr(b"two ")
    await stdio.write_stdout(b"three")
    await stdio.aclose()

    assert (tmp_path / "x.log").read_bytes() == b"one two three"


async def test_each_output_may_have_a_file(tmp_path: Path) -> None:
    uris = StdioUris(stdout=f"file://{tmp_path}/out", stderr=f"file://{tmp_path}/err")
    stdio = await ProcessStdio.open("c1", "ns", uris)

    await stdio.write_stdout(b"one")
    await stdio.write_stderr(b"two")
    await stdio.aclose()

    assert ((tmp_path / "out").read_bytes(), (tmp_path / "err").read_bytes()) == (b"one", b"two")


async def test_a_logger_gets_both_outputs(tmp_path: Path) -> None:
    program = tmp_path / "logger"
    copy = "import os; os.close(5); open({!r}, 'w').write(os.fdopen(3).read() + os.fdopen(4).read())"
    program.write_text(f"#!{sys.executable} -IS\n" + copy.format(str(tmp_path / "result")))
    program.chmod(0o755)
    uri = f"binary://{program}?key=value"
    stdio = await ProcessStdio.open("c1", "ns", StdioUris(stdout=uri, stderr=uri))

    await stdio.write_stdout(b"one ")
    await stdio.write_stderr(b"two")
    await stdio.aclose()

    assert (tmp_path / "result").read_text() == "one two"


@pytest.mark.parametrize(
    "changed",
    [
        {"stdin": "file:///x"},
        {"stdin": "/nonexistent"},
        {"stdout": "/nonexistent"},
        {"stderr": "/nonexistent"},
        {"stderr": "binary:///bin/true"},
        {"stdout": "ttrpc+unix:///x?streaming_id=1"},
    ],
)
async def test_nothing_stays_open_when_one_cannot_be_opened(fifos: dict[str, str], changed: dict[str, str]) -> None:
    before = _open_fds()

    with pytest.raises(InvalidArgumentError):
        await ProcessStdio.open("c1", "ns", StdioUris(**(fifos | changed)))

    assert _open_fds() == before
