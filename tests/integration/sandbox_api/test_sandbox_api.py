"""Pods by the Sandbox API, with a real guest: containerd 2.x with `sandboxer = "shim"`, played by the tests."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import anyio
import pytest
from grpclib.const import Status
from grpclib.exceptions import GRPCError

from protos.gen.containerd.runtime.sandbox import v1
from protos.gen.containerd.task.v2 import (
    ConnectRequest,
    CreateTaskRequest,
    DeleteRequest,
    PidsRequest,
    ShutdownRequest,
    StateRequest,
    WaitRequest,
)
from protos.lean.gen.containerd_task_v2 import DeleteResponse
from sandbox.rundir import read_journal
from shim.settings import IDLE_VARIABLE
from tests.harness import bundles, processes
from tests.harness.command import run
from tests.harness.waiting import eventually
from tests.integration.faults.direct import BOOT_TIMEOUT, CALL_TIMEOUT, end, start
from tests.integration.sandbox_api.containerd2 import HOSTNAME, PATIENCE, Containerd2, Sandbox, Started, connect
from tests.integration.system.task import Exec, expect_status

pytestmark = [pytest.mark.integration, pytest.mark.anyio]

POD = "sandboxapi1"
MEMBERS = ("sandboxapi-m1", "sandboxapi-m2")


async def _create(
    containerd: Containerd2, sandbox: Sandbox, container: str, *command: str, told: bool = True
) -> CreateTaskRequest:
    """Create a container of the pod, which is `told` by CRI's annotations or only by the connection.

    Its output goes to a file beside its bundle.
    """
    if told:
        request = containerd.direct.member(container, POD, *command)
    else:
        containerd.direct.bundle(container, bundles.spec(command))
        request = containerd.direct.request(container)
    request.stdout = f"file://{_output(containerd, container)}"
    await sandbox.task.create(request, timeout=BOOT_TIMEOUT)
    return request


def _output(containerd: Containerd2, name: str) -> Path:
    return containerd.direct.directory / f"{name}.out"


async def _output_of(containerd: Containerd2, sandbox: Sandbox, container: str, *command: str) -> str:
    """What an exec prints."""
    path = _output(containerd, "exec")
    path.unlink(missing_ok=True)
    assert await Exec(sandbox.task, container, "e1", *command, stdout=f"file://{path}").run() == 0
    return path.read_text()


def _pid(containerd: Containerd2, name: str) -> int:
    return int(read_journal(containerd.direct.run_dir(POD))["processes"][name]["pid"])


def _gone(containerd: Containerd2, started: Started) -> None:
    """The daemon has ended by itself and left nothing; `delete` has nothing to do, and says so in order."""
    eventually(lambda: not containerd.direct.shim.daemons(POD), "the daemon is gone", PATIENCE)
    assert not containerd.direct.run_dir(POD).exists()
    assert not Path(started.address.removeprefix("unix://")).exists()
    deleted = containerd.direct.shim.delete(POD, containerd.direct.directory / POD).check()
    assert DeleteResponse.FromString(deleted.stdout).exit_status == 137


@pytest.mark.parametrize("dialect", ["2.0 to 2.2", "2.3"])
async def test_a_pod_with_two_containers_from_create_to_shutdown(containerd: Containerd2, dialect: str) -> None:
    started = containerd.start_23(POD) if dialect == "2.3" else containerd.start_22(POD)
    assert started.version == 2
    async with connect(POD, started.address) as sandbox:
        await sandbox.create(containerd.create_request(POD))
        assert (await sandbox.status()).state == "SANDBOX_NOTREADY"
        answer = await sandbox.start()
        assert answer.pid == _pid(containerd, "qemu")
        ends: list[v1.WaitSandboxResponse] = []

        async def wait() -> None:
            ends.append(await sandbox.wait())

        async with anyio.create_task_group() as group:
            group.start_soon(wait)
            await _use(containerd, sandbox, started)
            await sandbox.stop()
        assert [item.exit_status for item in ends] == [0]
        assert (await sandbox.status()).state == "SANDBOX_NOTREADY"
        await sandbox.stop()
        await sandbox.shut_down()
    _gone(containerd, started)


async def _use(containerd: Containerd2, sandbox: Sandbox, started: Started) -> None:
    """What happens in a pod's life, as CRI brings it about."""
    ready = await sandbox.status(verbose=True)
    assert (ready.sandbox_id, ready.state) == (POD, "SANDBOX_READY")
    assert ready.info["stage"] == "ready"
    platform = (await sandbox.service.platform(v1.PlatformRequest(sandbox_id=POD))).platform
    assert platform is not None
    assert platform.os == "linux"
    await sandbox.service.ping_sandbox(v1.PingRequest(sandbox_id=POD))
    # A containerd that comes back asks so whether the sandbox is alive.
    assert (await sandbox.task.connect(ConnectRequest(id=POD))).task_pid == ready.pid
    assert [item.pid for item in (await sandbox.task.pids(PidsRequest(id=POD))).processes] == [ready.pid]

    first, second = MEMBERS
    async with connect(POD, started.address) as connection:
        await _create(containerd, connection, first, "sleep", "1000")
        await start(connection.task, first)
        # As of `ctr run --sandbox`, which brings a container here and tells it nothing of CRI's.
        await _create(containerd, connection, second, "sh", "-c", "hostname; exit 3", told=False)
        await start(connection.task, second)
        assert (await connection.task.wait(WaitRequest(id=second), timeout=PATIENCE)).exit_status == 3
        assert _output(containerd, second).read_text() == f"{HOSTNAME}\n"
        await _looks_like_its_pod(containerd, connection, first)
        metrics = (await sandbox.service.sandbox_metrics(v1.SandboxMetricsRequest(sandbox_id=POD))).metrics
        assert metrics is not None
        assert metrics.id == POD
        assert metrics.data is not None
        assert metrics.data.type_url.startswith("io.containerd.cgroups.v")
        assert await connection.task.delete(DeleteRequest(id=second), timeout=CALL_TIMEOUT)
        # containerd says so after each container, and the pod is not meant.
        await connection.task.shutdown(ShutdownRequest(id=second), timeout=CALL_TIMEOUT)
        containerd.direct.shim.delete(second, containerd.direct.directory / second).check()
        await end(connection.task, first)
        await connection.task.shutdown(ShutdownRequest(id=first), timeout=CALL_TIMEOUT)
    assert (await sandbox.status()).state == "SANDBOX_READY"


async def _looks_like_its_pod(containerd: Containerd2, sandbox: Sandbox, container: str) -> None:
    """Host name, files, sysctls and network of the pod are there, though no container of its own brought them."""
    script = (
        "hostname; cat /etc/hostname /etc/resolv.conf /proc/sys/net/ipv4/ip_unprivileged_port_start; "
        "ip -o -4 address show dev eth0; cat /sys/class/net/eth0/mtu"
    )
    text = await _output_of(containerd, sandbox, container, "sh", "-c", script)
    lines = text.splitlines()
    assert lines[:5] == [HOSTNAME, HOSTNAME, "search svc.example", "nameserver 192.0.2.53", "77"]
    assert "10.99.0.2/24" in lines[5]
    assert lines[6] == "1400"


async def test_what_is_asked_out_of_turn_is_refused_and_changes_nothing(containerd: Containerd2) -> None:
    started = containerd.start_23(POD)
    async with connect(POD, started.address) as sandbox, connect("another", started.address) as stranger:
        for asked in (sandbox.start(), sandbox.status(), sandbox.stop(), sandbox.wait(), stranger.status()):
            await expect_status(Status.NOT_FOUND, asked)
        for path in ("/nonexistent/netns", "/etc", "relative", "/proc/self/ns/uts"):
            request = containerd.create_request(POD, netns_path=path)
            await expect_status(Status.INVALID_ARGUMENT, sandbox.create(request))
        await expect_status(Status.INVALID_ARGUMENT, sandbox.create(containerd.create_request("another")))
        host_network = containerd.create_request(POD, netns_path="")
        with pytest.raises(GRPCError, match="host network"):
            await sandbox.create(host_network)
        await sandbox.create(containerd.create_request(POD))
        await expect_status(Status.ALREADY_EXISTS, sandbox.create(containerd.create_request(POD)))
        early = containerd.direct.member(MEMBERS[0], POD)
        await expect_status(Status.FAILED_PRECONDITION, sandbox.task.create(early, timeout=CALL_TIMEOUT))
        await expect_status(Status.NOT_FOUND, stranger.shut_down())
        await sandbox.shut_down()
    _gone(containerd, started)


async def test_a_network_namespace_that_vanishes_before_the_start_fails_it(containerd: Containerd2) -> None:
    name = "kata-sandbox-api-gone"
    run("ip", "netns", "add", name).check()
    started = containerd.start_23(POD)
    async with connect(POD, started.address) as sandbox:
        try:
            await sandbox.create(containerd.create_request(POD, netns_path=f"/run/netns/{name}"))
        finally:
            run("ip", "netns", "delete", name).check()
        with pytest.raises(GRPCError, match=name) as refused:
            await sandbox.start()
        assert refused.value.status is Status.FAILED_PRECONDITION
        assert (await sandbox.status()).state == "SANDBOX_NOTREADY"
        await sandbox.shut_down()
    _gone(containerd, started)


async def test_a_lost_vm_is_told_at_once_and_a_stop_grants_time(containerd: Containerd2) -> None:
    started = containerd.start_23(POD)
    async with connect(POD, started.address) as sandbox:
        await sandbox.create(containerd.create_request(POD))
        await sandbox.start()
        await expect_status(Status.FAILED_PRECONDITION, sandbox.start())
        await _create(containerd, sandbox, MEMBERS[0], "sleep", "1000")
        await start(sandbox.task, MEMBERS[0])
        await _follows_updates(containerd, sandbox)

        os.kill(_pid(containerd, "qemu"), signal.SIGKILL)

        assert (await sandbox.wait()).exit_status == 137
        status = await sandbox.status(verbose=True)
        assert status.state == "SANDBOX_NOTREADY"
        assert "SIGKILL" in status.info["cause"]
        assert (await sandbox.task.wait(WaitRequest(id=MEMBERS[0]), timeout=PATIENCE)).exit_status == 137
        assert (await sandbox.task.state(StateRequest(id=MEMBERS[0]))).status == 3
        late = containerd.direct.member(MEMBERS[1], POD)
        await expect_status(Status.UNAVAILABLE, sandbox.task.create(late, timeout=CALL_TIMEOUT))
        await sandbox.stop()
        await sandbox.task.delete(DeleteRequest(id=MEMBERS[0]), timeout=CALL_TIMEOUT)
        await sandbox.shut_down()
    _gone(containerd, started)


async def _follows_updates(containerd: Containerd2, sandbox: Sandbox) -> None:
    """The VM has what its containers may use together; what it can't have changes nothing."""

    async def memory() -> int:
        text = await _output_of(containerd, sandbox, MEMBERS[0], "grep", "MemTotal", "/proc/meminfo")
        return int(text.split()[1]) >> 10

    before = await memory()
    await sandbox.update(128 << 20, team="blue")
    assert abs(await memory() - before - 128) <= 8
    with pytest.raises(GRPCError, match=r"the sandbox can't have \d+ MiB") as refused:
        await sandbox.update(1 << 50)
    assert refused.value.status is Status.FAILED_PRECONDITION
    with pytest.raises(GRPCError, match="default_vcpus can't change"):
        await sandbox.update(0, **{"io.katacontainers.config.hypervisor.default_vcpus": "2"})
    assert abs(await memory() - before - 128) <= 8


async def test_a_sandbox_that_nobody_starts_does_not_keep_its_shim(
    containerd: Containerd2, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(IDLE_VARIABLE, "2")
    started = containerd.start_23(POD)
    async with connect(POD, started.address) as sandbox:
        await sandbox.create(containerd.create_request(POD))
        await sandbox.update(128 << 20)
        # Whoever waits for a pod is told that it will never be.
        assert (await sandbox.wait()).exit_status == 0
    _gone(containerd, started)


async def test_delete_cleans_up_behind_a_killed_daemon_without_any_task(containerd: Containerd2) -> None:
    started = containerd.start_22(POD)
    async with connect(POD, started.address) as sandbox:
        await sandbox.create(containerd.create_request(POD))
        pid = (await sandbox.start()).pid
        containerd.direct.shim.kill_daemons(POD)
    deleted = containerd.direct.shim.delete(POD, containerd.direct.directory / POD).check()

    assert DeleteResponse.FromString(deleted.stdout).exit_status == 137
    assert not processes.is_alive(pid)
    assert not containerd.direct.run_dir(POD).exists()


async def test_a_stop_asks_the_containers_first(containerd: Containerd2) -> None:
    started = containerd.start_23(POD)
    async with connect(POD, started.address) as sandbox:
        await sandbox.create(containerd.create_request(POD))
        await sandbox.start()
        script = "trap 'echo asked; exit 5' TERM; echo up; while :; do sleep 1 & wait; done"
        await _create(containerd, sandbox, MEMBERS[0], "sh", "-c", script)
        await start(sandbox.task, MEMBERS[0])
        eventually(lambda: "up" in _output(containerd, MEMBERS[0]).read_text(), "the trap is set", PATIENCE)

        await sandbox.stop(seconds=40)

        assert (await sandbox.task.wait(WaitRequest(id=MEMBERS[0]), timeout=PATIENCE)).exit_status == 5
        assert "asked" in _output(containerd, MEMBERS[0]).read_text()
        await sandbox.shut_down()
    _gone(containerd, started)
