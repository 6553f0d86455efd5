"""What a lost machine died of: told once, and told by the death that explains the others."""

from __future__ import annotations

import errno

import anyio
import anyio.lowlevel
import pytest
from grpclib.const import Status

from agent_client.errors import AgentError
from sandbox.errors import InvalidArgumentError, SandboxError, UnavailableError
from sandbox.guest_errors import creation_errors
from tests.fakes.world import PATIENCE, World

pytestmark = pytest.mark.anyio


def _losses(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if "the VM is lost" in record.getMessage()]


async def test_a_virtiofsd_that_only_followed_qemu_is_not_the_cause(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    await world.single()

    world.virtiofsd.end("virtiofsd exited with status 0", by_itself=False)
    await anyio.lowlevel.checkpoint()
    world.vm.die("the guest restarted: Kernel panic")

    with anyio.fail_after(PATIENCE):
        await world.sandbox.wait("c1", "")
        await world.sandbox.shutdown()
    assert _losses(caplog) == ["the VM is lost: the guest restarted: Kernel panic"]


async def test_a_virtiofsd_that_fails_is_the_cause(world: World, caplog: pytest.LogCaptureFixture) -> None:
    await world.single()

    world.virtiofsd.end("virtiofsd was killed by SIGKILL", by_itself=True)

    with anyio.fail_after(PATIENCE):
        await world.sandbox.wait("c1", "")
        await world.sandbox.shutdown()
    assert _losses(caplog) == ["the VM is lost: virtiofsd was killed by SIGKILL"]


async def test_a_start_that_the_system_has_no_room_for_says_where_it_failed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def start(_: float) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "/run/kata/c1/state.json.new")

    monkeypatch.setattr(world.virtiofsd, "start", start)

    with pytest.raises(UnavailableError, match=r"phase share failed after .* No space left on device: '/run/kata"):
        await world.sandbox.create(world.bundle("c1"), PATIENCE)

    assert world.sandbox.pod.machine is None


async def test_a_guest_that_there_is_no_descriptor_for_says_where_it_failed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def connect(*_: object, **__: object) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr("sandbox.machine.AgentClient.connect", connect)

    with pytest.raises(UnavailableError, match=r"phase agent failed after .*: \[Errno 24\] Too many open files"):
        await world.sandbox.create(world.bundle("c1"), PATIENCE)

    assert (await world.vm.wait()).reason


async def test_a_shutdown_right_after_the_exit_does_not_cover_up_the_cause(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    await world.single()

    world.agent.drop()
    world.vm.die("QEMU was killed by SIGSEGV")
    with anyio.fail_after(PATIENCE):
        await world.sandbox.wait("c1", "")
        await world.sandbox.shutdown()

    assert _losses(caplog) == ["the VM is lost: QEMU was killed by SIGSEGV"]


async def test_a_start_that_failed_is_not_taken_down_in_order(world: World) -> None:
    world.agent.fail("CreateSandbox", Status.INTERNAL, "no")

    with pytest.raises(UnavailableError):
        await world.sandbox.create(world.bundle("c1"), PATIENCE)

    assert world.vm.calls.index("kill") < world.vm.calls.index("shutdown")


async def test_a_container_of_another_pod_is_refused(world: World) -> None:
    await world.sandbox.create(world.bundle("c1", "sandbox"), PATIENCE)

    with pytest.raises(InvalidArgumentError, match="belongs to sandbox other"):
        await world.sandbox.create(world.bundle("c2", "container", pod="other"), PATIENCE)


def test_a_command_that_is_missing_is_not_a_container_that_is_missing() -> None:
    with pytest.raises(SandboxError) as caught, creation_errors("c1"):
        raise AgentError("CreateContainer", Status.NOT_FOUND, 'exec: "nonsense": executable file not found in $PATH')

    assert caught.value.status is Status.UNKNOWN
    assert "executable file not found" in str(caught.value)
