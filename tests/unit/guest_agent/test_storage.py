"""Storages: attached once, counted, released last first; drivers keep to Kata's tree."""

from __future__ import annotations

import os
import stat

import pytest

from guest.agent.errors import InternalError, InvalidArgumentError, NotFoundError, UnimplementedError
from guest.agent.storage import directories, mounting, overlay, shares
from guest.agent.storage.table import SANDBOX, StorageTable
from protos.lean.gen.grpc import FsGroup, Storage

pytestmark = pytest.mark.anyio


@pytest.fixture
def log():
    return []


@pytest.fixture
def table(layout, log):
    async def attach(storage, mount_point, _layout):
        name = os.path.basename(mount_point)
        if storage.source == "bad":
            raise InternalError("no")
        log.append(f"+{name}")
        return lambda: log.append(f"-{name}")

    return StorageTable(layout, {"fake": attach})


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


@pytest.mark.parametrize("mount_point", ["/", "/usr", "/run/kata-agent", "", "relative"])
async def test_a_mount_over_the_agents_own_root_is_refused(table, storage, mount_point, log):
    with pytest.raises(InvalidArgumentError):
        await table.attach_all("c1", [storage("a", mount_point=mount_point)])

    assert log == []


async def test_an_unknown_driver_is_named(table, storage):
    with pytest.raises(UnimplementedError, match="blk"):
        await table.attach_all("c1", [storage("a", driver="blk")])


async def test_a_local_directory_has_its_mode_and_group_and_goes_with_its_content(layout):
    place = f"{layout.sandbox}/local"
    storage = Storage(options=["mode=0750", f"fsgid={os.getgid()}"])

    undo = await directories.attach_local(storage, place, layout)

    assert stat.S_IMODE(os.stat(place).st_mode) == 0o2770
    os.makedirs(f"{place}/sub")
    undo()
    assert not os.path.exists(place)


async def test_a_local_directory_is_for_everybody_by_default(layout):
    await directories.attach_local(Storage(), f"{layout.sandbox}/local", layout)

    assert stat.S_IMODE(os.stat(f"{layout.sandbox}/local").st_mode) == 0o777


@pytest.mark.parametrize("option", ["mode=9", "mode=77777", "fsgid=x", "size=1"])
async def test_malformed_options_of_a_local_directory_are_refused(layout, option):
    with pytest.raises(InvalidArgumentError):
        await directories.attach_local(Storage(options=[option]), f"{layout.sandbox}/local", layout)


@pytest.fixture
def mounts(monkeypatch):
    calls = []
    monkeypatch.setattr(mounting.kernel, "mount", lambda *arguments: calls.append(arguments))
    monkeypatch.setattr(mounting.kernel, "unmount", lambda target, flags=0: calls.append(("unmount", target)))
    return calls


async def test_ephemeral_storage_is_a_tmpfs_with_its_group(layout, mounts):
    place = f"{layout.sandbox}/shm"
    storage = Storage(source="shm", options=["size=1m"], fs_group=FsGroup(group_id=os.getgid()))

    undo = await directories.attach_ephemeral(storage, place, layout)

    assert mounts[0][0] == "shm"
    assert mounts[0][2:] == ("tmpfs", 0, "size=1m")
    assert os.stat(place).st_mode & 0o2070 == 0o2070
    undo()
    assert mounts[-1] == ("unmount", place)


async def test_ephemeral_storage_of_another_type_is_refused(layout):
    with pytest.raises(UnimplementedError):
        await directories.attach_ephemeral(Storage(fstype="hugetlbfs"), f"{layout.sandbox}/x", layout)


async def test_the_share_is_mounted_by_its_tag(layout, mounts):
    await shares.attach_virtiofs(Storage(source="kataShared"), layout.shared_containers, layout)

    assert (mounts[0][0], mounts[0][2]) == ("kataShared", "virtiofs")


async def test_a_share_that_is_mounted_already_is_kept(layout, mounts):
    os.makedirs(f"{layout.proc}/self")
    with open(f"{layout.proc}/self/mountinfo", "w") as file:
        file.write(f"40 1 0:40 / {layout.shared_containers} rw - virtiofs kataShared rw\n")

    undo = await shares.attach_virtiofs(Storage(source="kataShared"), layout.shared_containers, layout)

    undo()
    assert mounts == []


async def test_a_share_without_a_tag_is_refused(layout):
    with pytest.raises(InvalidArgumentError):
        await shares.attach_virtiofs(Storage(), layout.shared_containers, layout)


async def test_a_file_is_bound_on_a_file(layout, mounts):
    source = f"{layout.shared_containers}/file"
    with open(source, "w"):
        pass

    await shares.attach_bind(Storage(source=source), f"{layout.sandbox}/place", layout)

    assert os.path.isfile(f"{layout.sandbox}/place")
    assert mounts[0][3] & mounting.kernel.MS_BIND


async def test_a_read_only_bind_takes_a_second_call(layout, mounts):
    await shares.attach_bind(Storage(source=layout.shared_containers, options=["ro"]), f"{layout.sandbox}/p", layout)

    assert mounts[1][3] & mounting.kernel.MS_REMOUNT


@pytest.mark.parametrize("source", ["/etc/passwd", "", "/run/kata-agent"])
async def test_a_bind_from_outside_of_katas_tree_is_refused(layout, mounts, source):
    with pytest.raises(InvalidArgumentError):
        await shares.attach_bind(Storage(source=source), f"{layout.sandbox}/p", layout)

    assert mounts == []


async def test_a_bind_of_what_is_not_there_says_so(layout):
    with pytest.raises(NotFoundError):
        await shares.attach_bind(Storage(source=f"{layout.shared_run}/none"), f"{layout.sandbox}/p", layout)


async def test_an_overlay_gets_writable_layers_in_the_guest(layout, mounts):
    lower, place = layout.shared_containers, f"{layout.shared_run}/c1/root"
    storage = Storage(options=[f"lowerdir={lower}"], driver_options=[overlay.READ_WRITE_OPTION])

    await overlay.attach_overlay(storage, place, layout)

    assert mounts[0][4] == f"lowerdir={lower},upperdir={place}-upper,workdir={place}-work"
    assert os.path.isdir(f"{place}-upper")


async def test_an_overlay_of_the_agents_root_is_refused(layout, mounts):
    storage = Storage(options=["lowerdir=/usr"])

    with pytest.raises(InvalidArgumentError):
        await overlay.attach_overlay(storage, f"{layout.shared_run}/c1/root", layout)

    assert mounts == []


async def test_directories_of_an_overlay_are_made_on_request(layout, mounts):
    made = f"{layout.shared_run}/c1/upper"
    storage = Storage(driver_options=[overlay.CREATE_DIRECTORY_OPTION + made], options=[f"upperdir={made}"])

    await overlay.attach_overlay(storage, f"{layout.shared_run}/c1/root", layout)

    assert os.path.isdir(made)
