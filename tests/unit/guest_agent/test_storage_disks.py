"""Disks as storages: their options, their file systems, their groups, and roots made of several layers."""

from __future__ import annotations

import os
import stat

import pytest

from guest.agent.errors import FailedPreconditionError, InternalError, InvalidArgumentError, UnimplementedError
from guest.agent.storage import disks, filesystems, groups, layers, mounting
from protos.lean.gen.grpc import FsGroup, Storage
from protos.lean.gen.types import FsGroupChangePolicy

pytestmark = pytest.mark.anyio


@pytest.fixture
def mounts(monkeypatch):
    """Mounts that are only noted; `fail` is a source that can't be mounted."""

    class Mounts(list):
        fail = ""

        def mount(self, source, target, fstype, flags=0, data=""):
            if source.endswith(self.fail) and self.fail:
                raise OSError(22, "Invalid argument")
            self.append((source, os.readlink(target) if target.startswith("/proc/self/fd") else target, fstype, data))

        def unmount(self, target, flags=0):
            self.append(("unmount", target))

    result = Mounts()
    monkeypatch.setattr(mounting.kernel, "mount", result.mount)
    monkeypatch.setattr(mounting.kernel, "unmount", result.unmount)
    return result


@pytest.fixture
def disk(sysfs):
    """Makes disks by slot."""

    def make(slot, name, minor):
        sysfs.disk(f"devices/pci0000:00/0000:00:{slot}.0/virtio{minor}", name, f"254:{minor}")
        return f"{sysfs.dev}/{name}"

    return make


async def test_a_disk_is_mounted_where_the_host_says_and_unmounted(context, layout, mounts, disk):
    path = disk("10", "vdb", 16)
    place = f"{layout.sandbox}/storage/x"
    storage = Storage(driver="blk", source="10", fstype="ext4", options=["data=ordered"])

    undo = await disks.attach_disk(storage, place, context)
    await undo()

    assert mounts == [(path, place, "ext4", "data=ordered"), ("unmount", place)]


@pytest.mark.parametrize("options", [[], ["nouuid"], ["noatime,nouuid"]])
async def test_xfs_is_mounted_whatever_its_uuid(context, layout, mounts, disk, options):
    disk("10", "vdb", 16)

    storage = Storage(driver="blk", source="10", fstype="xfs", options=options)
    await disks.attach_disk(storage, f"{layout.sandbox}/x", context)

    assert mounts[0][3] == "nouuid"


@pytest.mark.parametrize("fstype", ["", "proc", "overlay", "tmpfs", "nfs", "ext4\0"])
async def test_only_file_systems_of_disks_are_mounted(context, layout, mounts, disk, fstype):
    disk("10", "vdb", 16)

    with pytest.raises(InvalidArgumentError):
        await disks.attach_disk(Storage(driver="blk", source="10", fstype=fstype), f"{layout.sandbox}/x", context)

    assert mounts == []


async def test_encryption_and_unknown_driver_options_are_refused(context, layout):
    for option, error in (("encryption_key=ephemeral", UnimplementedError), ("wipe", InvalidArgumentError)):
        storage = Storage(driver="blk", source="10", fstype="ext4", driver_options=[option])
        with pytest.raises(error):
            await disks.attach_disk(storage, f"{layout.sandbox}/x", context)


class TestNewFileSystem:
    @pytest.fixture
    def made(self, monkeypatch, tmp_path):
        calls = []

        async def run(arguments, reaper, timeout):
            calls.append(arguments)
            return 0

        monkeypatch.setattr(filesystems.spawn, "run", run)
        monkeypatch.setattr(filesystems, "MKFS", str(tmp_path))
        return calls

    async def test_an_empty_disk_gets_one(self, context, layout, mounts, disk, made):
        path = disk("10", "vdb", 16)
        storage = Storage(driver="blk", source="10", fstype="ext4", driver_options=["create_filesystem"])

        await disks.attach_disk(storage, f"{layout.sandbox}/x", context)

        assert made == [[filesystems.MKFS, "-q", "-F", *filesystems.SCRATCH_OPTIONS, path]]
        assert len(mounts) == 1

    async def test_one_that_is_there_is_kept(self, context, disk, made):
        path = disk("10", "vdb", 16)
        with open(path, "wb") as file:
            file.write(bytes(1080) + b"\x53\xef" + bytes(2000))

        await filesystems.ensure(path, "ext4", context.reaper)

        assert made == []

    async def test_other_content_is_not_overwritten(self, context, disk, made):
        path = disk("10", "vdb", 16)
        with open(path, "wb") as file:
            file.write(b"precious")

        with pytest.raises(FailedPreconditionError, match="neither empty nor ext4"):
            await filesystems.ensure(path, "ext4", context.reaper)

        assert made == []

    async def test_only_ext4_can_be_made(self, context, disk, made):
        with pytest.raises(UnimplementedError):
            await filesystems.ensure(disk("10", "vdb", 16), "xfs", context.reaper)

    async def test_a_failure_of_mkfs_is_told(self, context, disk, made, monkeypatch):
        async def run(arguments, reaper, timeout):
            return 1

        monkeypatch.setattr(filesystems.spawn, "run", run)
        with pytest.raises(InternalError, match="status 1"):
            await filesystems.ensure(disk("10", "vdb", 16), "ext4", context.reaper)


class TestGroup:
    @pytest.fixture
    def volume(self, layout):
        place = f"{layout.sandbox}/volume"
        os.makedirs(f"{place}/sub")
        for name in ("file", "sub/file"):
            with open(f"{place}/{name}", "w"):
                pass
            os.chmod(f"{place}/{name}", 0o600)
        os.chmod(place, 0o700)
        os.symlink("/etc/passwd", f"{place}/link")
        return place

    def give(self, layout, volume, policy=FsGroupChangePolicy.Always, read_only=False):
        groups.give(layout, volume, FsGroup(group_id=os.getgid(), group_change_policy=policy), read_only)

    def modes(self, volume):
        return [stat.S_IMODE(os.stat(f"{volume}/{name}").st_mode) for name in (".", "sub", "file", "sub/file")]

    def test_everything_is_given_and_may_be_written(self, layout, volume):
        before = os.stat("/etc/passwd")

        self.give(layout, volume)

        assert self.modes(volume) == [0o2770, 0o2775, 0o660, 0o660]
        assert os.stat("/etc/passwd").st_mode == before.st_mode

    def test_a_read_only_volume_may_be_read(self, layout, volume):
        self.give(layout, volume, read_only=True)

        assert self.modes(volume)[0] == 0o2750
        assert self.modes(volume)[2] == 0o640

    def test_on_a_mismatch_of_the_root_only_a_volume_that_fits_is_left(self, layout, volume):
        os.chmod(volume, 0o2770)

        self.give(layout, volume, FsGroupChangePolicy.OnRootMismatch)
        assert self.modes(volume)[2] == 0o600

        os.chmod(volume, 0o770)
        self.give(layout, volume, FsGroupChangePolicy.OnRootMismatch)
        assert self.modes(volume)[2] == 0o660

    async def test_a_disk_whose_group_can_not_be_set_is_unmounted(self, context, layout, mounts, disk, monkeypatch):
        disk("10", "vdb", 16)

        def give(*arguments):
            raise InternalError("no")

        monkeypatch.setattr(groups, "give", give)
        storage = Storage(driver="blk", source="10", fstype="ext4", fs_group=FsGroup(group_id=1))

        with pytest.raises(InternalError):
            await disks.attach_disk(storage, f"{layout.sandbox}/x", context)

        assert mounts[-1][0] == "unmount"


class TestLayers:
    def lower(self, source, **fields):
        return Storage(driver="erofs.multi-layer", source=source, fstype="erofs", **fields)

    def upper(self, source, *options):
        return Storage(
            driver="blk",
            source=source,
            fstype="ext4",
            options=[*options, "X-kata.overlay-upper", "X-kata.multi-layer=true"],
        )

    async def test_the_first_layer_is_the_uppermost_and_the_disk_is_written_to(self, context, layout, mounts, disk):
        for number, name in enumerate(("vdb", "vdc", "vdd")):
            disk(f"1{number}", name, 16 * number)
        upper = self.upper("12", "noatime", "X-kata.mkdir.path={{ mount 0 }}/upper/etc:0755")

        undo = await layers.attach_layers(
            [self.lower("10"), upper, self.lower("11")], f"{layout.shared_run}/r", context
        )

        place = f"{layout.state}/overlays/{os.listdir(f'{layout.state}/overlays')[0]}"
        assert [mount[0].rpartition("/")[2] for mount in mounts] == ["vdd", "vdb", "vdc", "overlay"]
        assert mounts[-1][3] == (
            f"lowerdir={place}/0:{place}/1,upperdir={place}/writable/upper,workdir={place}/writable/work"
        )
        assert os.path.isdir(f"{place}/writable/upper/etc")
        assert not any("X-kata" in mount[3] for mount in mounts)
        del mounts[:]
        await undo()
        assert [mount[1] for mount in mounts] == [
            f"{layout.shared_run}/r",
            f"{place}/1",
            f"{place}/0",
            f"{place}/writable",
        ]
        assert os.listdir(f"{layout.state}/overlays") == []

    async def test_a_layer_that_can_not_be_mounted_takes_the_others_down(self, context, layout, mounts, disk):
        disk("10", "vdb", 0)
        disk("11", "vdc", 16)
        mounts.fail = "vdc"

        with pytest.raises(InternalError):
            await layers.attach_layers([self.lower("10"), self.lower("11")], f"{layout.shared_run}/r", context)

        assert [mount[0] for mount in mounts if mount[0] == "unmount"] == ["unmount"]
        assert os.listdir(f"{layout.state}/overlays") == []

    @pytest.mark.parametrize("path", ["{{ mount 1 }}/x", "{{ mount 0 }}/../x", "../x", "a/{{x}}"])
    async def test_directories_are_made_on_the_writable_layer_only(self, context, layout, mounts, disk, path):
        disk("10", "vdb", 0)
        disk("11", "vdc", 16)
        storages = [self.upper("10", f"X-kata.mkdir.path={path}"), self.lower("11")]

        with pytest.raises(InvalidArgumentError):
            await layers.attach_layers(storages, f"{layout.shared_run}/r", context)

    async def test_what_makes_no_root_is_refused(self, context, layout):
        for storages in (
            [self.upper("10")],
            [self.upper("10"), self.upper("11"), self.lower("12")],
            [Storage(driver="erofs.multi-layer", source="10", fstype="squashfs")],
            [self.lower("10", driver_options=["create_filesystem"])],
        ):
            with pytest.raises(InvalidArgumentError):
                await layers.attach_layers(storages, f"{layout.shared_run}/r", context)

    async def test_a_check_that_can_not_be_done_is_not_left_out(self, context, layout):
        with pytest.raises(UnimplementedError):
            await layers.attach_layers(
                [self.lower("10", options=["X-kata.verity=1"])], f"{layout.shared_run}/r", context
            )

    def test_a_layers_source_is_read_by_its_form(self):
        assert layers._driver(self.lower("3:1")) == "scsi"
        assert layers._driver(self.lower("02/03")) == "blk"
        assert layers._driver(Storage(driver="mmioblk", source="/dev/vdb")) == "mmioblk"
