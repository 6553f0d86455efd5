"""The table of storages: attached once, counted, released last first."""

from __future__ import annotations

import os

import pytest

from guest.agent.errors import InternalError, InvalidArgumentError, UnimplementedError
from guest.agent.storage import layers
from guest.agent.storage.context import quick
from guest.agent.storage.table import SANDBOX, StorageTable
from protos.lean.gen.grpc import Storage

pytestmark = pytest.mark.anyio


@pytest.fixture
def log():
    return []


@pytest.fixture
def table(context, log):
    async def attach(storage, mount_point, _context):
        name = os.path.basename(mount_point)
        if storage.source == "bad":
            raise InternalError("no")
        log.append(f"+{name}")
        return quick(lambda: log.append(f"-{name}"))

    return StorageTable(context, {"fake": attach})


@pytest.fixture
def storage(layout):
    def make(name, source="x", **fields):
        return Storage(**({"driver": "fake", "source": source, "mount_point": f"{layout.sandbox}/{name}"} | fields))

    return make


async def test_a_storage_is_attached_once_for_all_who_ask(table, storage, log):
    await table.attach_all("c1", [storage("a")])
    await table.attach_all("c2", [storage("a")])
    await table.release("c1")
    assert log == ["+a"]

    await table.release("c2")

    assert log == ["+a", "-a"]


async def test_storages_are_released_last_first(table, storage, log):
    await table.attach_all("c1", [storage("a"), storage("b")])

    await table.release("c1")

    assert log == ["+a", "+b", "-b", "-a"]


async def test_a_shared_storage_stays_until_the_sandbox_goes(table, storage, log):
    await table.attach_all("c1", [storage("a", shared=True)])
    await table.release("c1")
    assert log == ["+a"]

    await table.release_everything()

    assert log == ["+a", "-a"]


async def test_a_failure_releases_what_was_attached_before_it(table, storage, log):
    with pytest.raises(InternalError):
        await table.attach_all("c1", [storage("a"), storage("b", source="bad")])

    assert log == ["+a", "-a"]
    assert table.mount_points == []


async def test_a_failure_leaves_alone_what_others_use(table, storage, log):
    await table.attach_all(SANDBOX, [storage("a")])

    with pytest.raises(InternalError):
        await table.attach_all("c1", [storage("a"), storage("b", source="bad")])

    assert log == ["+a"]


async def test_one_mount_point_has_one_storage(table, storage):
    await table.attach_all("c1", [storage("a")])

    with pytest.raises(InvalidArgumentError, match="in use"):
        await table.attach_all("c2", [storage("a", source="y")])


@pytest.mark.parametrize(
    "mount_point",
    ["/", "/usr", "/run/kata-agent", "", "relative", "{run}", "{run}/sandbox", "{run}/shared", "{run}/sandbox/ns/ipc"],
)
async def test_a_mount_over_the_agents_own_root_is_refused(table, storage, layout, mount_point, log):
    with pytest.raises(InvalidArgumentError):
        await table.attach_all("c1", [storage("a", mount_point=mount_point.format(run=layout.shared_run))])

    assert log == []


async def test_an_unknown_driver_is_named(table, storage):
    with pytest.raises(UnimplementedError, match="blk"):
        await table.attach_all("c1", [storage("a", driver="blk")])


async def test_an_undoing_that_fails_does_not_keep_the_others(context, storage, log):
    async def attach(storage, mount_point, _context):
        def undo():
            log.append(mount_point[-1])
            raise OSError("busy")

        return quick(undo)

    table = StorageTable(context, {"fake": attach})
    await table.attach_all("c1", [storage("a"), storage("b")])

    await table.release("c1")

    assert log == ["b", "a"]
    assert table.mount_points == []


async def test_layers_of_one_root_are_one_storage_in_its_place(table, storage, layout, log, monkeypatch):
    async def attach(group, mount_point, context):
        log.append([member.source for member in group])
        return quick(lambda: log.append("-root"))

    monkeypatch.setattr(layers, "attach_layers", attach)
    marked = {"options": ["X-kata.multi-layer=true"]}

    await table.attach_all("c1", [storage("r", "1", **marked), storage("a"), storage("r", "2", **marked)])
    await table.release("c1")

    assert log == [["1", "2"], "+a", "-a", "-root"]
