"""The executable, run as containerd runs it: handshake, one daemon per pod, cleanup."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import socket
import stat
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NoReturn

import pytest

from protos.lean.gen.containerd_runtime_bootstrap_v1 import BootstrapParams, BootstrapResult
from protos.lean.gen.containerd_task_v2 import DeleteResponse
from protos.lean.gen.containerd_types import RuntimeInfo
from protos.lean.gen.runtimeoptions_v1 import Options
from protos.lean.gen.wellknown import Any
from shim import cli, delete, sockets, start
from tests.harness.waiting import eventually
from tests.unit.shim.place import ShimPlace

_CRI = "io.kubernetes.cri."
_SANDBOX = {_CRI + "container-type": "sandbox", _CRI + "sandbox-id": "pod1"}
_MEMBER = {_CRI + "container-type": "container", _CRI + "sandbox-id": "pod1"}


def _expected_path(place: ShimPlace, sandbox: str) -> str:
    return sockets.socket_path(str(place.sockets), place.address, place.namespace, sandbox)


def _arguments(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/cmdline").read_text().split("\0")


def test_start_prints_the_plain_address_and_leaves_a_daemon(place: ShimPlace) -> None:
    bundle = place.bundle("c1")

    address = place.start("c1", bundle)

    path = _expected_path(place, "c1")
    assert address == f"unix://{path}"
    assert (bundle / "address").read_text() == address
    assert sorted(entry.name for entry in bundle.iterdir()) == ["address", "config.json", "log", "rootfs"]
    assert sockets.is_listening(path)
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    assert place.daemon()


def test_the_daemon_holds_none_of_starts_streams_and_is_on_its_own(place: ShimPlace) -> None:
    bundle = place.bundle("c1")
    place.start("c1", bundle)
    pid = place.daemon()

    links = {fd: os.readlink(f"/proc/{pid}/fd/{fd}") for fd in (0, 1, 2, 3)}

    assert (links[0], links[1]) == ("/dev/null", "/dev/null")
    assert links[2] == str(bundle / "log")
    assert links[3].startswith("socket:")
    assert os.getsid(pid) == pid
    assert os.getpgid(pid) == pid
    assert os.readlink(f"/proc/{pid}/cwd") == str(bundle)


def test_the_daemon_is_named_after_the_shim(place: ShimPlace) -> None:
    place.start("c1", place.bundle("c1"))
    pid = place.daemon()

    assert eventually(lambda: Path(f"/proc/{pid}/comm").read_text() == "containerd-shim\n", "the daemon has its name")


def test_a_second_start_finds_the_daemon(place: ShimPlace) -> None:
    first = place.start("c1", place.bundle("c1"))

    second = place.start("c1", place.root / "bundles" / "c1")

    assert second == first
    assert place.daemon()


def test_starts_at_the_same_time_leave_one_daemon(place: ShimPlace) -> None:
    bundle = place.bundle("c1")

    with ThreadPoolExecutor(8) as pool:
        addresses = set(pool.map(lambda _: place.start("c1", bundle), range(8)))

    assert len(addresses) == 1
    assert place.daemon()


def test_a_stale_socket_is_replaced(place: ShimPlace) -> None:
    path = _expected_path(place, "c1")
    place.sockets.mkdir()
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(path)

    assert place.start("c1", place.bundle("c1")) == f"unix://{path}"
    assert sockets.is_listening(path)


def test_a_container_of_a_pod_gets_the_pods_address_and_no_process(place: ShimPlace) -> None:
    pod = place.start("pod1", place.bundle("pod1", annotations=_SANDBOX))
    member = place.bundle("m1", annotations=_MEMBER)

    address = place.start("m1", member)

    assert address == pod == f"unix://{_expected_path(place, 'pod1')}"
    assert (member / "address").read_text() == pod
    assert place.daemon()


def test_a_container_of_a_dead_pod_is_an_error(place: ShimPlace) -> None:
    done = place.run(*place.command("m1", "start"), cwd=place.bundle("m1", annotations=_MEMBER))

    assert done.returncode == 1
    assert done.stdout.startswith(b"containerd-shim-kata-v2: the shim of sandbox pod1 is not running")
    assert done.stdout.count(b"\n") == 1


def test_a_bundle_without_a_spec_is_a_sandbox_of_its_own(place: ShimPlace) -> None:
    bundle = place.bundle("s1")
    (bundle / "config.json").unlink()

    assert place.start("s1", bundle) == f"unix://{_expected_path(place, 's1')}"


def test_options_before_2_3_reach_the_daemon(place: ShimPlace) -> None:
    options = Any(type_url="runtimeoptions.v1.Options", value=Options(config_path="/etc/k.toml").SerializeToString())

    address = place.start("c1", place.bundle("c1"), stdin=options.SerializeToString())

    assert address.startswith("unix://")
    arguments = _arguments(place.daemon())
    assert arguments[arguments.index("-config") + 1] == "/etc/k.toml"


def test_since_2_3_params_are_answered_with_a_result(place: ShimPlace) -> None:
    bundle = place.bundle("c1")
    told = place.root / "told"
    params = BootstrapParams(
        instance_id="c1",
        namespace="test",
        socket_dir=str(told),
        containerd_ttrpc_address="/events.sock",
        log_level=-4,
    )

    printed = place.start("c1", bundle, stdin=params.SerializeToString())

    result = BootstrapResult.FromString(printed.encode(errors="surrogateescape"))
    path = sockets.socket_path(str(told), place.address, "test", "c1")
    assert (result.version, result.address, result.protocol) == (2, f"unix://{path}", "ttrpc")
    assert os.readlink(bundle / "s") == str(told)
    assert (bundle / "address").read_text() == f"unix://{path}"
    pid = place.daemon()
    assert "-debug" in _arguments(pid)
    assert b"TTRPC_ADDRESS=/events.sock\0" in Path(f"/proc/{pid}/environ").read_bytes()


def test_the_kernel_prefers_the_daemon_to_its_parent(place: ShimPlace) -> None:
    place.start("c1", place.bundle("c1"))
    mine = int(Path("/proc/self/oom_score_adj").read_text())

    assert int(Path(f"/proc/{place.daemon()}/oom_score_adj").read_text()) == min(1000, mine + 1)


@pytest.mark.parametrize(
    ("spec", "stdin", "message"),
    [
        ("{", b"", b"config.json"),
        ('{"annotations": {"io.kubernetes.cri.container-type": "nonsense"}}', b"", b"nonsense"),
        ("{}", b"\xff\xff\xff", b"standard input"),
        ("{}", b"\0" * (11 << 20), b"standard input is larger than 10485760 bytes"),
    ],
)
def test_bad_input_is_one_line_and_no_daemon(place: ShimPlace, spec: str, stdin: bytes, message: bytes) -> None:
    bundle = place.bundle("c1")
    (bundle / "config.json").write_text(spec)

    done = place.run(*place.command("c1", "start"), cwd=bundle, stdin=stdin)

    assert done.returncode == 1
    assert message in done.stdout
    assert done.stdout.count(b"\n") == 1
    assert place.daemons() == []
    assert not (bundle / "address").exists()


@pytest.mark.parametrize("container_id", ["a/b", "..", "", "x" * 77])
def test_an_id_that_is_none_is_refused(place: ShimPlace, container_id: str) -> None:
    done = place.run(*place.command(container_id, "start"))

    assert (done.returncode, done.stdout.count(b"\n")) == (1, 1)
    assert b"flag -id" in done.stdout


def test_core_scheduling_is_given_or_its_absence_told(place: ShimPlace) -> None:
    done = place.run(*place.command("c1", "start"), cwd=place.bundle("c1"), SCHED_CORE="1")

    if done.returncode == 0:
        assert done.stdout.startswith(b"unix://")
    else:
        assert done.stdout.startswith(b"containerd-shim-kata-v2: core scheduling (SCHED_CORE): ")
        assert not os.path.exists(_expected_path(place, "c1"))


def test_a_bundle_that_cannot_be_written_leaves_no_daemon(place: ShimPlace) -> None:
    bundle = place.bundle("c1")
    (bundle / "address").mkdir()

    done = place.run(*place.command("c1", "start"), cwd=bundle)

    assert done.returncode == 1
    place.wait_until_gone()
    assert list(place.sockets.iterdir()) == []


def test_a_daemon_that_is_gone_already_leaves_no_socket_either(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(pid: int) -> NoReturn:
        raise ProcessLookupError(errno.ESRCH, "No such process")

    monkeypatch.setattr(os, "pidfd_open", gone)
    path = tmp_path / "s.sock"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))

    start._abandon(4242, str(path))

    assert not path.exists()


def test_a_daemon_nobody_comes_to_ends_itself_and_its_socket(place: ShimPlace) -> None:
    place.start("c1", place.bundle("c1"), KATA_SHIM_IDLE_TIMEOUT="0.2")

    eventually(lambda: list(place.sockets.iterdir()) == [], "the socket is gone", 30)
    place.wait_until_gone(30)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_daemon_in_order(place: ShimPlace, number: signal.Signals) -> None:
    bundle = place.bundle("c1")
    log = os.open(bundle / "log", os.O_RDONLY | os.O_NONBLOCK)
    place.start("c1", bundle)
    text = b""

    def serving() -> bool:
        nonlocal text
        try:
            text += os.read(log, 65536)
        except BlockingIOError:
            return False
        return b"serving sandbox c1" in text

    eventually(serving, "the daemon serves")
    os.kill(place.daemon(), number)
    place.wait_until_gone()

    assert list(place.sockets.iterdir()) == []
    text += os.read(log, 65536)
    os.close(log)
    assert f"ending: {number.name}".encode() in text


@pytest.mark.parametrize("exists", [True, False])
def test_delete_of_something_unknown_is_quiet_and_says_killed(place: ShimPlace, exists: bool) -> None:
    bundle = place.bundle("c1") if exists else place.root / "missing"
    before = time.time()

    done = place.run(*place.command("c1", "-bundle", str(bundle), "delete"))

    assert done.returncode == 0
    response = DeleteResponse.FromString(done.stdout)
    assert (response.pid, response.exit_status) == (0, 137)
    assert response.exited_at is not None
    assert int(before) <= response.exited_at.seconds <= time.time()


def test_delete_with_a_broken_spec_still_works(place: ShimPlace) -> None:
    bundle = place.bundle("c1")
    (bundle / "config.json").write_text("{")

    done = place.run(*place.command("c1", "-bundle", str(bundle), "delete"), cwd=bundle)

    assert DeleteResponse.FromString(done.stdout).exit_status == 137


def test_deletes_at_the_same_time_all_succeed(place: ShimPlace) -> None:
    bundle = place.bundle("c1")
    command = place.command("c1", "-bundle", str(bundle), "delete")

    with ThreadPoolExecutor(10) as pool:
        results = list(pool.map(lambda _: place.run(*command, cwd=bundle), range(10)))

    assert [done.returncode for done in results] == [0] * 10
    assert {DeleteResponse.FromString(done.stdout).exit_status for done in results} == {137}


def test_delete_removes_the_socket_of_a_dead_daemon(place: ShimPlace) -> None:
    bundle = place.bundle("c1")
    place.start("c1", bundle)
    os.kill(place.daemon(), signal.SIGKILL)
    place.wait_until_gone()
    assert os.path.exists(_expected_path(place, "c1"))

    place.run(*place.command("c1", "-bundle", str(bundle), "delete"), cwd=bundle)

    assert list(place.sockets.iterdir()) == []


def test_delete_waits_for_the_socket_of_a_dying_daemon(place: ShimPlace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KATA_SHIM_SOCKET_DIR", str(place.sockets))
    path = _expected_path(place, "c1")
    listener = sockets.claim(path)
    assert listener is not None
    looks = iter([True, True])
    is_listening = sockets.is_listening

    def look(where: str) -> bool:
        if next(looks, False):
            return is_listening(where)
        monkeypatch.setattr(sockets, "is_listening", is_listening)
        os.close(listener)
        return is_listening(where)

    monkeypatch.setattr(sockets, "is_listening", look)
    flags = ["-namespace", place.namespace, "-address", place.address, "-id", "c1", "-bundle", str(place.bundle("c1"))]

    delete.run(cli.parse([*flags, "delete"]))

    assert not os.path.exists(path)


def test_delete_finds_the_socket_where_start_was_told_to_put_it(place: ShimPlace) -> None:
    bundle = place.bundle("c1")
    told = place.root / "told"
    params = BootstrapParams(instance_id="c1", namespace="test", socket_dir=str(told))
    place.start("c1", bundle, stdin=params.SerializeToString())
    os.kill(place.daemon(), signal.SIGKILL)
    place.wait_until_gone()

    place.run(*place.command("c1", "-bundle", str(bundle), "delete"), cwd=bundle)

    assert list(told.iterdir()) == []


@pytest.mark.parametrize("again", [True, False])
def test_delete_that_comes_late_leaves_the_next_container_of_its_id_alone(
    place: ShimPlace, monkeypatch: pytest.MonkeyPatch, again: bool
) -> None:
    cleaned: list[Path] = []
    monkeypatch.setattr(delete, "clean", cleaned.append)
    bundle = place.bundle("c1")
    monkeypatch.chdir(bundle)
    shutil.rmtree(bundle)
    if again:
        place.bundle("c1")
    flags = ["-namespace", place.namespace, "-address", place.address, "-id", "c1", "-bundle", str(bundle)]

    answer = delete.run(cli.parse([*flags, "delete"]))

    assert DeleteResponse.FromString(answer).exit_status == 137
    assert len(cleaned) == (0 if again else 1)


@pytest.mark.parametrize("container_id", ["a/b", "..", ""])
def test_delete_refuses_an_id_that_is_none(place: ShimPlace, container_id: str) -> None:
    done = place.run(*place.command(container_id, "-bundle", str(place.root), "delete"))

    assert (done.returncode, done.stdout.count(b"\n")) == (1, 1)


def test_version_info_and_help_need_no_flags(place: ShimPlace) -> None:
    binary = str(place.real_binary)

    assert place.run(binary, "-v").stdout == b"containerd-shim-kata-v2 0.1.0\n"
    assert RuntimeInfo.FromString(place.run(binary, "-info").stdout).name == "io.containerd.kata.v2"
    assert place.run(binary, "-h").stdout.startswith(b"Usage of containerd-shim-kata-v2")


@pytest.mark.parametrize(
    "arguments", [[], ["restart"], ["-nonsense"], ["-id"]], ids=["nothing", "action", "flag", "value"]
)
def test_a_wrong_command_line_is_one_line(place: ShimPlace, arguments: list[str]) -> None:
    done = place.run(str(place.real_binary), *arguments)

    assert done.returncode == 1
    assert done.stdout.startswith(b"containerd-shim-kata-v2: ")
    assert done.stdout.count(b"\n") == 1


def test_an_answer_that_cannot_be_written_is_a_failure(place: ShimPlace) -> None:
    with open("/dev/full", "wb") as full:
        import subprocess

        done = subprocess.run([str(place.real_binary), "-v"], stdout=full, timeout=30)

    assert done.returncode == 1


def test_start_imports_neither_asyncio_nor_a_protobuf_runtime() -> None:
    import subprocess
    import sys

    from tests.unit.shim.place import PROJECT

    code = (
        f"import sys; sys.path.insert(0, {str(PROJECT)!r});"
        "from shim import main, start, spawn; print(*sorted(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, timeout=30)
    modules = set(done.stdout.split())

    assert "shim.start" in modules
    heavy = {"asyncio", "typing", "re", "json", "socket", "subprocess", "dataclasses", "pathlib", "grpclib", "protos"}
    assert modules & heavy == set()
