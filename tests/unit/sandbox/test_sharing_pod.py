"""A pod without a shared file system, on a fake guest: what is sent when, and what is followed for how long."""

from __future__ import annotations

import anyio
import pytest
from grpclib.const import Status

from protos.gen import grpc as agent_pb
from sandbox.errors import FailedPreconditionError, InvalidArgumentError, SandboxError
from tests.fakes.configmap import ConfigMap
from tests.fakes.world import PATIENCE, World

pytestmark = pytest.mark.anyio

SHARED = "/run/kata-containers/shared/containers"


@pytest.fixture
def vm_settings() -> str:
    return "shared_fs = 'none'"


def bind(source, destination: str) -> dict[str, object]:
    return {"destination": destination, "type": "bind", "source": str(source), "options": ["rbind", "ro"]}


async def test_files_are_there_before_the_container_and_followed_while_it_lives(world: World):
    source = ConfigMap(world.tmp / "conf", {"key": b"1"})
    await world.sandbox.create(world.bundle("c1", mounts=[bind(source.directory, "/conf")]), PATIENCE)
    calls = [name for name, _ in world.agent.calls]
    assert calls.index("CreateSandbox") < calls.index("CopyFile")
    assert calls[-1] == "CreateContainer" or calls.index("CreateContainer") > len(calls) - 3
    (request,) = world.agent.requests("CreateContainer")
    place = request.oci.mounts[0].source
    assert [storage.mount_point for storage in request.storages] == [f"{SHARED}/c1", place]
    assert {storage.driver for storage in request.storages} == {"local"}
    assert [storage.driver for storage in world.agent.sandbox.storages] == ["ephemeral"]
    source.update({"key": b"2"})
    with anyio.fail_after(PATIENCE):
        while world.agent.files.read(f"{place}/key") != b"2":
            await anyio.sleep(0.01)


async def test_a_guest_without_room_is_told_and_nothing_is_left(world: World):
    world.agent.fail("CopyFile", Status.RESOURCE_EXHAUSTED, "No space left on device")
    with pytest.raises(SandboxError, match=r"share the files of container c1: .*No space left on device"):
        await world.sandbox.create(world.bundle("c1"), PATIENCE)
    assert world.sandbox.is_empty
    with anyio.fail_after(PATIENCE):
        await world.vm.wait()


async def test_a_volume_that_is_not_there_is_named(world: World):
    with pytest.raises(InvalidArgumentError, match="mount source /no/such: No such file or directory"):
        await world.sandbox.create(world.bundle("c1", mounts=[bind("/no/such", "/x")]), PATIENCE)


async def test_an_agent_without_the_driver_is_told_before_anything_is_asked_of_it(world: World):
    details = agent_pb.AgentDetails(version="0.9", storage_handlers=["virtio-fs"])
    world.agent.answer("GetGuestDetails", agent_pb.GuestDetailsResponse(agent_details=details))
    with pytest.raises(
        FailedPreconditionError, match=r'phase guest failed .*has no storage driver ephemeral local.*shared_fs = "none"'
    ):
        await world.sandbox.create(world.bundle("c1"), PATIENCE)
    assert world.agent.requests("CreateSandbox") == []
