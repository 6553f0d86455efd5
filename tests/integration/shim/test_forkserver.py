"""The node's fork server with the real shim: whose child a daemon is, what it costs, and what becomes of the pods."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from protos.gen.containerd.task.v2 import ConnectRequest
from sandbox.rundir import run_dir_for
from shim.forkserver import client
from tests.harness import processes
from tests.harness.waiting import eventually
from tests.unit.shim.place import ShimPlace, task_client

pytestmark = [pytest.mark.integration, pytest.mark.anyio]


@pytest.fixture
def node(place: ShimPlace) -> Iterator[ShimPlace]:
    """A place with the real shim and a fork server of its own, which the first start has brought."""
    place.binary = place.real_binary
    place.environment[client.SWITCH] = name = f"test-{os.getpid()}"
    _start(place, "first")
    eventually(lambda: _servers(name), "there is a server")
    eventually(lambda: any(_is_ready(one.pid) for one in _servers(name)), "the server has imported all")
    yield place
    for one in processes.find(rf"-address {place.address}( |$)"):
        os.kill(one.pid, signal.SIGTERM)
    eventually(lambda: not processes.find(rf"-address {place.address}( |$)"), "the daemons are gone")
    eventually(lambda: not _servers(name), "the server has left with the last of them")


def _servers(name: str) -> list[processes.Process]:
    """The servers of a name: its socket is in their environment only, for their arguments are overwritten."""
    found = processes.find(r"kata-fork-server|forkserver/entry\.py")
    return [one for one in found if f"{client.SWITCH}={name}".encode() in _environment(one.pid)]


def _environment(pid: int) -> list[bytes]:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return []


def _is_ready(pid: int) -> bool:
    """Whether the server's socket listens (`Flags` of /proc/net/unix: 00010000)."""
    try:
        inodes = {os.readlink(path) for path in Path(f"/proc/{pid}/fd").iterdir()}
    except OSError:
        return False
    rows = [line.split() for line in Path("/proc/net/unix").read_text().splitlines()[1:]]
    return any(row[3] == "00010000" and f"socket:[{row[6]}]" in inodes for row in rows)


def _mount_namespace(pid: int | str) -> str:
    return os.readlink(f"/proc/{pid}/ns/mnt")


def _start(place: ShimPlace, container: str) -> tuple[str, processes.Process]:
    address = place.start(container, place.bundle(container))
    return address, _daemon(place, container)


def _daemon(place: ShimPlace, container: str) -> processes.Process:
    (daemon,) = eventually(lambda: processes.find(f"-id {container} -address {place.address}"), "the daemon is there")
    return daemon


async def test_a_daemon_is_forked_and_serves(node: ShimPlace) -> None:
    (server,) = _servers(node.environment[client.SWITCH])

    address, daemon = _start(node, "second")

    assert daemon.parent == server.pid
    assert daemon.name.startswith("containerd-shim")
    assert os.readlink(f"/proc/{daemon.pid}/cwd") == str(node.root / "bundles" / "second")
    eventually(lambda: _mount_namespace(daemon.pid) != _mount_namespace("self"), "it has mounts of its own")
    async with task_client(address) as client_:
        assert (await client_.connect(ConnectRequest(id="second"))).shim_pid == daemon.pid


def test_the_death_of_the_server_means_nothing_to_its_daemons(node: ShimPlace) -> None:
    _, daemon = _start(node, "second")

    for server in _servers(node.environment[client.SWITCH]):
        os.kill(server.pid, signal.SIGKILL)
    eventually(lambda: not _servers(node.environment[client.SWITCH]), "the server is dead")

    assert processes.is_alive(daemon.pid)
    _, third = _start(node, "third")
    assert processes.is_alive(third.pid)


def test_another_mount_namespace_gets_a_daemon_of_its_own(node: ShimPlace) -> None:
    (server,) = _servers(node.environment[client.SWITCH])
    bundle = node.bundle("second")

    done = node.run("unshare", "--mount", *node.command("second", "start"), cwd=bundle)

    assert done.returncode == 0, done.stdout
    assert _daemon(node, "second").parent != server.pid


def test_delete_undoes_a_forked_daemon(node: ShimPlace) -> None:
    _, daemon = _start(node, "second")
    run_dir = run_dir_for(node.address, node.namespace, "second")
    eventually(run_dir.exists, "the daemon has its run directory")

    done = node.run(*node.command("second", "-bundle", str(node.root / "bundles" / "second"), "delete"))

    assert done.returncode == 0, done.stdout
    eventually(lambda: not processes.is_alive(daemon.pid), "the daemon is dead")
    assert not run_dir.exists()
