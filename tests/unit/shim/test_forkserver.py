"""The fork server's parts: what is said between it and `start`, what it notices, and what a daemon takes over."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shim.forkserver import client, inheritance
from shim.forkserver import fingerprint as fingerprint_module
from shim.forkserver.fingerprint import Code, fingerprint, loaded_files
from shim.forkserver.server import LINGER, MAX_REQUEST, PATIENCE, RequestError, parse
from tests.harness.waiting import eventually

_PROJECT = Path(__file__).resolve().parents[3]

_words = st.text(st.characters(min_codepoint=1, max_codepoint=0xD7FF), min_size=1, max_size=20)
_names = st.text(st.characters(min_codepoint=1, max_codepoint=0x7F).filter(lambda char: char != "="), min_size=1)

# A server whose daemons say what they got, in the log that they were given, and then hold on to it.
_SERVER = """\
import json, os, sys
sys.path.insert(0, {root!r})
from shim.forkserver import inheritance, server
listener = server.claim()
told = open({told!r}, "w")
print("claimed" if listener else "taken", file=told, flush=True)
if listener:
    forks = server.ForkServer(
        listener, serves=inheritance.shares_namespaces, is_current=lambda: not os.path.exists({stale!r}),
        prepare=lambda request: None,
    )
    forks.adopt({first})
    request = forks.run()
    if request:
        inheritance.arrange(request.environment, request.listener, request.log, request.bundle)
        told = [request.arguments, dict(os.environ), os.getcwd(), os.listdir("/proc/self/fd")]
        os.write(2, json.dumps(told).encode())
        os.dup2(os.pipe()[0], 0)
        os.read(0, 1)
"""


@given(st.lists(_words, min_size=1), st.dictionaries(_names, _words))
def test_a_request_is_understood_as_it_was_meant(arguments: list[str], environment: dict[str, str]) -> None:
    data = client.message(arguments, environment)

    assert int.from_bytes(data[:4], "big") == len(data) - 4
    assert parse(data[4:]) == (arguments, environment)


@given(st.binary(max_size=200))
def test_any_other_bytes_are_refused_or_understood(data: bytes) -> None:
    try:
        arguments, _ = parse(data)
    except RequestError:
        return
    assert arguments


def test_a_file_that_changes_or_goes_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "module.py"
    path.write_text("1")
    before = fingerprint([str(path)])

    path.write_text("22")
    changed = fingerprint([str(path)])
    path.unlink()

    assert before != changed
    assert fingerprint([str(path)]) not in (before, changed)


@pytest.fixture(params=["told by the kernel", "looked at"])
def code(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Code, Path]:
    """Code below a directory, and its only file."""
    path = tmp_path / "roots" / "package" / "module.py"
    path.parent.mkdir(parents=True)
    path.write_text("1")
    monkeypatch.setattr(fingerprint_module, "loaded_files", lambda _: [str(path)])
    if request.param == "looked at":
        monkeypatch.setattr(fingerprint_module, "_bell", lambda _: None)
    return Code([str(tmp_path / "roots")]), path


def test_code_that_stays_is_current(code: tuple[Code, Path]) -> None:
    was, path = code
    assert was.is_current()
    (path.parent / "other.py").touch()
    (path.parent / "__pycache__").mkdir()
    assert was.is_current()


@pytest.mark.parametrize(
    "change",
    [
        lambda path: path.write_text("22"),
        lambda path: path.unlink(),
        lambda path: (path.parent / "new").write_text("1") and (path.parent / "new").rename(path),
        lambda path: (path.parent.rename(path.parent.with_name("old")), path.parent.mkdir(), path.write_text("1")),
        lambda path: (
            path.parents[1].rename(path.parents[1].with_name("old")),
            path.parent.mkdir(parents=True),
            path.write_text("1"),
        ),
    ],
    ids=["written", "removed", "replaced", "with its package", "with all that there is"],
)
def test_code_that_is_changed_is_not_current(code: tuple[Code, Path], change: Callable[[Path], object]) -> None:
    was, path = code
    assert was.is_current()
    change(path)
    assert not was.is_current()


def test_the_files_are_those_of_the_project() -> None:
    files = loaded_files([str(_PROJECT)])

    assert client.__file__ in files
    assert os.__file__ not in files


@pytest.mark.parametrize(
    ("version", "theirs", "joined"),
    [
        (2, "0::/pods/a\n", "pods/a"),
        (1, "4:cpu,cpuacct:/pods/a\n1:name=systemd:/\n", "cpu,cpuacct/pods/a"),
        (1, "0::/pods/a\n1:name=systemd:/\n", "unified/pods/a"),
    ],
)
def test_a_daemon_joins_the_cgroups_that_differ(tmp_path: Path, version: int, theirs: str, joined: str) -> None:
    if version == 2:
        (tmp_path / "cgroup.procs").touch()
    (tmp_path / joined).mkdir(parents=True)

    inheritance.join_cgroups(theirs, "4:cpu,cpuacct:/\n1:name=systemd:/\n0::/\n", tmp_path)

    assert [path.relative_to(tmp_path) for path in tmp_path.rglob("cgroup.procs") if path.read_text()] == [
        Path(joined) / "cgroup.procs"
    ]


def test_a_cgroup_that_is_gone_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="gone"):
        inheritance.join_cgroups("4:cpu:/gone\n", "", tmp_path)


def test_namespaces_are_compared() -> None:
    assert inheritance.shares_namespaces(os.getpid())
    assert not inheritance.shares_namespaces(2**22 + 1)


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory with a server of its own name running in it."""
    monkeypatch.setenv(client.SWITCH, f"test-{os.getpid()}-{time.monotonic_ns()}")
    server = _serve(tmp_path)
    eventually(lambda: _is_served() or None, "the server listens")
    yield tmp_path
    server.kill()
    server.wait()


def _serve(directory: Path, first: int = 2**22 + 1) -> subprocess.Popen[bytes]:
    told = directory / f"told-{time.monotonic_ns()}"
    text = _SERVER.format(root=str(_PROJECT), told=str(told), stale=str(directory / "stale"), first=first)
    server = subprocess.Popen([sys.executable, "-c", text])
    eventually(lambda: told.exists() and told.read_text(), "the server has claimed its name, or not")
    return server


def _is_served() -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(client.address())
        except OSError:
            return False
    return True


def _ask(directory: Path, *arguments: str, **environment: str) -> int | None:
    bundle = os.open(directory, os.O_PATH)
    log = os.open(directory / "log", os.O_RDWR | os.O_CREAT)
    with socket.socket(socket.AF_UNIX) as listener:
        try:
            return client.ask(arguments, environment, (listener.fileno(), log, bundle))
        finally:
            os.close(bundle)
            os.close(log)


def _end(pid: int | None) -> None:
    assert pid
    os.kill(pid, 9)
    eventually(lambda: not Path(f"/proc/{pid}").exists(), "the daemon is reaped by its server")


def test_a_daemon_has_what_was_asked_and_nothing_else(node: Path) -> None:
    pid = _ask(node, "a", "-b", LANG="C", EMPTY="")

    log = node / "log"
    eventually(lambda: log.read_text().endswith("]"), "the daemon has told")
    arguments, environment, cwd, fds = json.loads(log.read_text())
    # The last descriptor is that of the listing itself.
    assert (arguments, environment, cwd, sorted(fds)[:-1]) == (
        ["a", "-b"],
        {"LANG": "C", "EMPTY": ""},
        str(node),
        list("0123"),
    )
    _end(pid)


def test_there_is_one_server(node: Path) -> None:
    second = _serve(node)

    assert second.wait(10) == 0
    assert _is_served()


def test_a_server_that_is_stale_forks_no_more(node: Path) -> None:
    (node / "stale").touch()

    assert _ask(node, "a") is None
    eventually(lambda: not _is_served(), "the server has left")


@pytest.mark.parametrize("data", [b"", b"\0\0", (MAX_REQUEST + 1).to_bytes(4, "big"), b"\0\0\0\1\0"])
def test_a_client_that_babbles_gets_nothing_and_others_are_served(node: Path, data: bytes) -> None:
    with socket.socket(socket.AF_UNIX) as babbler:
        babbler.connect(client.address())
        babbler.sendall(data)
        babbler.shutdown(socket.SHUT_WR)
        assert babbler.recv(1) == b""

    _end(_ask(node, "a"))


def test_a_client_that_gives_up_has_no_daemon(node: Path) -> None:
    with socket.socket(socket.AF_UNIX) as quitter:
        quitter.connect(client.address())
        data = client.message(["a"], {})
        files = [os.open(node, os.O_PATH) for _ in range(3)]
        socket.send_fds(quitter, [data], files)
        pid = int.from_bytes(quitter.recv(4), "big")

    eventually(lambda: not Path(f"/proc/{pid}").exists(), "the daemon has ended and is reaped")
    assert not (node / "log").exists()
    for file in files:
        os.close(file)


def test_a_client_that_is_slow_has_its_daemon(node: Path) -> None:
    files = [os.open(node, os.O_PATH), os.open(node / "log", os.O_RDWR | os.O_CREAT), os.open(node, os.O_PATH)]
    with socket.socket(socket.AF_UNIX) as slow:
        slow.connect(client.address())
        socket.send_fds(slow, [client.message(["a"], {})], files)
        pid = int.from_bytes(slow.recv(4), "big")
        slow.settimeout(2 * PATIENCE)
        with pytest.raises(TimeoutError):
            slow.recv(1)
        slow.settimeout(None)
        slow.send(b"\1")

    eventually(lambda: (node / "log").read_text().endswith("]"), "the daemon has told")
    _end(pid)
    for file in files:
        os.close(file)


def test_without_a_server_there_is_no_pid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(client.SWITCH, "nobody")

    assert _ask(tmp_path, "a") is None


def test_the_server_outlives_its_daemons_by_a_moment_only(node: Path) -> None:
    _end(_ask(node, "a"))

    eventually(lambda: not _is_served(), "the server has left")


def test_the_server_stays_for_a_daemon_that_had_to_do_without_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(client.SWITCH, f"test-{os.getpid()}-{time.monotonic_ns()}")
    first = subprocess.Popen(["sleep", "100000"])
    server = _serve(tmp_path, first.pid)
    eventually(lambda: _is_served() or None, "the server listens")

    with pytest.raises(subprocess.TimeoutExpired):
        server.wait(2 * LINGER)

    first.kill()
    first.wait()
    assert server.wait(30) == 0
