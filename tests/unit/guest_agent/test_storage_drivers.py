"""Storage drivers of memory, directories, shares, binds and overlays: they keep to Kata's tree."""

from __future__ import annotations

import errno
import os
import stat

import pytest

from guest.agent.errors import (
    FailedPreconditionError,
    InternalError,
    InvalidArgumentError,
    NotFoundError,
    ResourceExhaustedError,
    UnimplementedError,
)
from guest.agent.storage import directories, hugepages, mounting, overlay, shares
from protos.lean.gen.grpc import FsGroup, Storage

pytestmark = pytest.mark.anyio


async def test_a_local_directory_has_its_mode_and_group_and_goes_with_its_content(layout, context):
    place = f"{layout.sandbox}/local"
    storage = Storage(options=["mode=0750", f"fsgid={os.getgid()}"])

    undo = await directories.attach_local(storage, place, context)

    assert stat.S_IMODE(os.stat(place).st_mode) == 0o2770
    os.makedirs(f"{place}/sub")
    await undo()
    assert not os.path.exists(place)


async def test_a_local_directory_is_for_everybody_by_default(layout, context):
    await directories.attach_local(Storage(), f"{layout.sandbox}/local", context)

    assert stat.S_IMODE(os.stat(f"{layout.sandbox}/local").st_mode) == 0o777


@pytest.mark.parametrize("option", ["mode=9", "mode=77777", "fsgid=x", "size=1"])
async def test_malformed_options_of_a_local_directory_are_refused(layout, context, option):
    with pytest.raises(InvalidArgumentError):
        await directories.attach_local(Storage(options=[option]), f"{layout.sandbox}/local", context)


@pytest.fixture
def mounts(monkeypatch):
    calls = []
    monkeypatch.setattr(mounting.kernel, "mount", lambda *arguments: calls.append(arguments))
    monkeypatch.setattr(mounting.kernel, "unmount", lambda target, flags=0: calls.append(("unmount", target)))
    return calls


async def test_ephemeral_storage_is_a_tmpfs_with_its_group(layout, context, mounts):
    place = f"{layout.sandbox}/shm"
    storage = Storage(source="shm", options=["size=1m"], fs_group=FsGroup(group_id=os.getgid()))

    undo = await directories.attach_ephemeral(storage, place, context)

    assert mounts[0][0] == "shm"
    assert mounts[0][2:] == ("tmpfs", 0, "size=1m")
    assert os.stat(place).st_mode & 0o2070 == 0o2070
    await undo()
    assert mounts[-1] == ("unmount", place)


async def test_ephemeral_storage_of_another_type_is_refused(layout, context):
    with pytest.raises(UnimplementedError):
        await directories.attach_ephemeral(Storage(fstype="ext4"), f"{layout.sandbox}/x", context)


async def test_the_share_is_mounted_by_its_tag(layout, context, mounts):
    await shares.attach_virtiofs(Storage(source="kataShared"), layout.shared_containers, context)

    assert (mounts[0][0], mounts[0][2]) == ("kataShared", "virtiofs")


async def test_a_share_that_is_mounted_already_is_kept(layout, context, mounts):
    os.makedirs(f"{layout.proc}/self")
    with open(f"{layout.proc}/self/mountinfo", "w") as file:
        file.write(f"40 1 0:40 / {layout.shared_containers} rw - virtiofs kataShared rw\n")

    undo = await shares.attach_virtiofs(Storage(source="kataShared"), layout.shared_containers, context)

    await undo()
    assert mounts == []


async def test_a_share_without_a_tag_is_refused(layout, context):
    with pytest.raises(InvalidArgumentError):
        await shares.attach_virtiofs(Storage(), layout.shared_containers, context)


async def test_a_file_is_bound_on_a_file(layout, context, mounts):
    source = f"{layout.shared_containers}/file"
    with open(source, "w"):
        pass

    await shares.attach_bind(Storage(source=source), f"{layout.sandbox}/place", context)

    assert os.path.isfile(f"{layout.sandbox}/place")
    assert mounts[0][3] & mounting.kernel.MS_BIND


async def test_a_read_only_bind_takes_a_second_call(layout, context, mounts):
    await shares.attach_bind(Storage(source=layout.shared_containers, options=["ro"]), f"{layout.sandbox}/p", context)

    assert mounts[1][3] & mounting.kernel.MS_REMOUNT


@pytest.mark.parametrize("source", ["/etc/passwd", "", "/run/kata-agent"])
async def test_a_bind_from_outside_of_katas_tree_is_refused(layout, context, mounts, source):
    with pytest.raises(InvalidArgumentError):
        await shares.attach_bind(Storage(source=source), f"{layout.sandbox}/p", context)

    assert mounts == []


async def test_a_bind_of_what_is_not_there_says_so(layout, context):
    with pytest.raises(NotFoundError):
        await shares.attach_bind(Storage(source=f"{layout.shared_run}/none"), f"{layout.sandbox}/p", context)


async def test_an_overlay_gets_writable_layers_in_the_guest(layout, context, mounts):
    lower, place = layout.shared_containers, f"{layout.shared_run}/c1/root"
    storage = Storage(options=[f"lowerdir={lower}"], driver_options=[overlay.READ_WRITE_OPTION])

    undo = await overlay.attach_overlay(storage, place, context)

    directory = f"{layout.state}/overlays/{os.listdir(f'{layout.state}/overlays')[0]}"
    assert mounts[0][4] == f"lowerdir={lower},upperdir={directory}/upper,workdir={directory}/work"
    assert os.path.isdir(f"{directory}/upper")
    await undo()
    assert os.listdir(f"{layout.state}/overlays") == []


async def test_an_overlay_of_the_agents_root_is_refused(layout, context, mounts):
    storage = Storage(options=["lowerdir=/usr"])

    with pytest.raises(InvalidArgumentError):
        await overlay.attach_overlay(storage, f"{layout.shared_run}/c1/root", context)

    assert mounts == []


async def test_directories_of_an_overlay_are_made_on_request(layout, context, mounts):
    made = f"{layout.shared_run}/c1/upper"
    storage = Storage(driver_options=[overlay.CREATE_DIRECTORY_OPTION + made], options=[f"upperdir={made}"])

    await overlay.attach_overlay(storage, f"{layout.shared_run}/c1/root", context)

    assert os.path.isdir(made)


async def test_an_overlay_that_can_not_be_mounted_leaves_no_layer_behind(layout, context, monkeypatch):
    monkeypatch.setattr(mounting.kernel, "mount", refuse(errno.EINVAL))
    storage = Storage(options=[f"lowerdir={layout.shared_containers}", overlay.READ_WRITE_OPTION])

    with pytest.raises(InternalError):
        await overlay.attach_overlay(storage, f"{layout.shared_run}/c1/root", context)

    assert os.listdir(f"{layout.state}/overlays") == []


def refuse(code):
    def mount(*arguments):
        raise OSError(code, os.strerror(code))

    return mount


async def test_a_kernel_without_9p_is_told_apart(layout, context, monkeypatch):
    monkeypatch.setattr(mounting.kernel, "mount", refuse(errno.ENODEV))

    with pytest.raises(FailedPreconditionError, match="no file system 9p"):
        await shares.attach_9p(Storage(source="kataShared"), layout.shared_containers, context)


async def test_9p_is_mounted_as_kata_does_where_the_host_says_nothing(layout, context, mounts):
    await shares.attach_9p(Storage(source="kataShared"), layout.shared_containers, context)

    assert mounts[0][2:] == ("9p", mounting.kernel.MS_NODEV, "trans=virtio,version=9p2000.L,cache=mmap")


async def test_a_mount_in_use_goes_with_its_last_user(layout, monkeypatch):
    calls = []

    def unmount(target, flags=mounting.kernel.UMOUNT_NOFOLLOW):
        calls.append(flags)
        if not flags & mounting.kernel.MNT_DETACH:
            raise OSError(errno.EBUSY, "busy")

    monkeypatch.setattr(mounting.kernel, "unmount", unmount)
    os.makedirs(f"{layout.sandbox}/x")

    mounting.take_down(layout, f"{layout.sandbox}/x")

    assert len(calls) == 2
    assert not os.path.exists(f"{layout.sandbox}/x")


async def test_the_hosts_directories_are_not_removed(layout, mounts):
    mounting.take_down(layout, f"{layout.shared_containers}/c1/rootfs")

    assert os.path.isdir(f"{layout.shared_containers}/c1/rootfs")


class TestHugePages:
    @pytest.fixture
    def pool(self, sysfs, monkeypatch):
        """A pool of at most 10 pages, of which 2 are taken."""
        path = sysfs.file("kernel/mm/hugepages/hugepages-2048kB/nr_hugepages", "2")
        plain = hugepages._set
        monkeypatch.setattr(hugepages, "_set", lambda path, count: plain(path, min(count, 10)))
        return path

    def count(self, pool):
        with open(pool) as file:
            return int(file.read())

    async def test_pages_are_added_to_the_pool_and_given_back(self, layout, context, mounts, pool):
        storage = Storage(fstype="hugetlbfs", options=["pagesize=2097152,size=8388608"])

        undo = await directories.attach_ephemeral(storage, f"{layout.sandbox}/h", context)

        assert self.count(pool) == 6
        assert mounts[0][2] == "hugetlbfs"
        await undo()
        assert self.count(pool) == 2

    async def test_too_few_pages_are_an_error_and_none_is_kept(self, layout, context, mounts, pool):
        storage = Storage(fstype="hugetlbfs", options=["pagesize=2M", "size=1G"])

        with pytest.raises(ResourceExhaustedError, match="8 of 512"):
            await directories.attach_ephemeral(storage, f"{layout.sandbox}/h", context)

        assert self.count(pool) == 2
        assert mounts == []

    async def test_a_mount_that_fails_gives_the_pages_back(self, layout, context, monkeypatch, pool):
        monkeypatch.setattr(mounting.kernel, "mount", refuse(errno.ENOMEM))
        storage = Storage(fstype="hugetlbfs", options=["pagesize=2M", "size=4M"])

        with pytest.raises(InternalError):
            await directories.attach_ephemeral(storage, f"{layout.sandbox}/h", context)

        assert self.count(pool) == 2

    async def test_pages_of_a_size_that_the_kernel_has_not_are_named(self, layout, context, sysfs):
        with pytest.raises(FailedPreconditionError, match="1048576 KiB"):
            hugepages.reserve(layout.sys, 1 << 30, 1 << 30)

    @pytest.mark.parametrize(
        "options",
        [[], ["pagesize=2M"], ["size=2M"], ["pagesize=x,size=2M"], ["pagesize=3M,size=6M"], ["pagesize=2M,size=3M"]],
    )
    def test_what_is_no_number_of_pages_is_refused(self, options):
        with pytest.raises(InvalidArgumentError):
            hugepages.parse(options)
