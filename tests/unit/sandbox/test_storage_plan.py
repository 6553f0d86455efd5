"""Where a container's volumes come from: the share, the guest's memory, its own directories, disks, devices."""

from __future__ import annotations

from pathlib import Path

import pytest

from protos.gen import grpc as agent_pb
from sandbox.errors import InvalidArgumentError, SandboxError, UnimplementedError
from sandbox.oci import HugepageLimit, SpecMount
from sandbox.storage import direct, kubernetes, mountinfo
from sandbox.storage.direct import DirectVolume
from sandbox.storage.kubernetes import EmptyDir
from sandbox.storage.sources import Kind, Memory, Source
from sandbox.volumes import BoundDevice, VolumePlan, VolumeRules, plan_volumes

KUBELET = Path("/var/lib/kubelet")
POD = "/var/lib/kubelet/pods/uid"
VOLUME = EmptyDir("cache", f"{POD}/volumes/kubernetes.io~empty-dir/cache")


def plan(source: Source, *options: str, rules: VolumeRules | None = None, path: str = "/src") -> VolumePlan:
    return plan_volumes("c1", [SpecMount("/dst", "bind", path, ["rbind", *options])], {path: source}, rules)


def empty_dir(part: str = "", memory: Memory | None = None, **settings: int) -> Source:
    return Source(Kind.DIRECTORY, empty_dir=EmptyDir("cache", VOLUME.directory, part), memory=memory, **settings)


def test_an_empty_dir_in_memory_is_one_tmpfs_of_its_size_for_the_whole_pod():
    found = plan(empty_dir(memory=Memory("tmpfs", 1 << 20, "", 0o777, 2000)))
    (storage,) = found.storages
    assert (storage.driver, storage.fstype, storage.shared) == ("ephemeral", "tmpfs", True)
    assert storage.options == ["mode=0777", "size=1048576", "fsgid=2000"]
    assert found.mounts[0].source == storage.mount_point == "/run/kata-containers/sandbox/ephemeral/cache"
    assert found.entries == ()


def test_huge_pages_have_the_containers_limit_for_their_size():
    limits = [HugepageLimit("1GB", 1 << 30), HugepageLimit("2MB", 4 << 20)]
    found = plan(empty_dir(memory=Memory("hugetlbfs", 0, "2M", 0o777, 0)), rules=VolumeRules(hugepage_limits=limits))
    assert found.storages[0].options == [f"pagesize={2 << 20}", f"size={4 << 20}", "mode=0777"]
    assert found.storages[0].fs_group is None
    with pytest.raises(InvalidArgumentError, match="emptyDir cache: the container has no limit for huge pages of 2M"):
        plan(empty_dir(memory=Memory("hugetlbfs", 0, "2M", 0o777, 0)))


def test_huge_pages_have_options_that_hugetlbfs_takes_and_numbers_that_katas_agent_reads():
    limits = [HugepageLimit("2MB", 4 << 20)]
    volume = empty_dir(memory=Memory("hugetlbfs", 0, "2M", 0o2777, 2000))
    (storage,) = plan(volume, rules=VolumeRules(hugepage_limits=limits)).storages
    values = dict(option.split("=") for option in storage.options)
    assert values.keys() <= {"pagesize", "size", "mode", "uid", "gid", "min_size", "nr_inodes"}
    assert (int(values["pagesize"]), int(values["size"]), values["mode"]) == (2 << 20, 4 << 20, "0777")
    assert storage.fs_group == agent_pb.FsGroup(group_id=2000)


def test_an_empty_dir_on_disk_is_shared_or_the_guests_own_as_configured():
    assert plan(empty_dir()).storages == ()
    assert len(plan(empty_dir()).entries) == 1
    found = plan(empty_dir(mode=0o777, group=3000), rules=VolumeRules(local_root="/root/local"))
    (storage,) = found.storages
    assert (storage.driver, storage.mount_point, storage.shared) == ("local", "/root/local/cache", True)
    assert storage.options == ["mode=0777", "fsgid=3000"]


def test_a_part_of_a_volume_is_made_below_all_of_it():
    found = plan(empty_dir("logs/a", Memory("tmpfs", 0, "", 0o777, 0)))
    places = [storage.mount_point for storage in found.storages]
    assert places == [f"/run/kata-containers/sandbox/ephemeral/cache{part}" for part in ("", "/logs/a")]
    assert found.mounts[0].source == places[1]


def test_a_direct_volume_is_a_disk_however_often_it_is_mounted():
    source = Source(Kind.DIRECTORY, direct=DirectVolume("/dev/sdb", "ext4"))
    mounts = [SpecMount(place, "bind", "/vol", ["rbind"]) for place in ("/a", "/b")]
    found = plan_volumes("c1", mounts, {"/vol": source})
    (disk,) = found.disks
    assert [mount.source for mount in found.mounts] == [disk.mount_point] * 2
    assert disk.mount_point == "/run/kata-containers/sandbox/storage/L3ZvbA=="


def test_a_bound_device_is_a_device_and_no_mount():
    found = plan(Source(Kind.BLOCK, number=(7, 3)), "ro", path="/dev/loop3")
    assert found.devices == (BoundDevice("/dst", (7, 3), True),)
    assert found.mounts == ()


def test_below_dev_the_guest_has_its_own_but_for_files():
    assert plan(Source(Kind.OTHER), path="/dev/fuse").mounts[0].source == "/dev/fuse"
    assert len(plan(Source(Kind.FILE), path="/dev/some-file").entries) == 1


def test_containers_with_the_same_volume_have_the_same_entry_until_it_is_made_anew():
    rules = VolumeRules(one_entry=True)
    one, other = Source(Kind.DIRECTORY, (1, 2)), Source(Kind.DIRECTORY, (1, 3))
    names = [
        plan(source, *options, rules=rules).entries[0].name for source in (one, one, other) for options in ((), ("ro",))
    ]
    assert names[0:2] == names[2:4]
    assert len(set(names)) == 4


def test_propagation_to_the_guest_is_followed_and_to_the_host_refused():
    assert plan(Source(Kind.DIRECTORY), "rslave").entries[0].follows_mounts
    assert not plan(Source(Kind.DIRECTORY), "rprivate").entries[0].follows_mounts
    with pytest.raises(UnimplementedError, match="mount /dst: what a container mounts can't appear on the host"):
        plan(Source(Kind.DIRECTORY), "rshared")


@pytest.mark.parametrize(
    ("path", "found"),
    [
        (VOLUME.directory, VOLUME),
        (f"{VOLUME.directory}/sub/dir", EmptyDir("cache", VOLUME.directory, "sub/dir")),
        (f"{POD}/volume-subpaths/cache/main/0", VOLUME),
        (f"{POD}/volumes/kubernetes.io~configmap/cache", None),
        (f"{POD}/volumes/kubernetes.io~empty-dir/../x", None),
        ("/elsewhere/pods/uid/volumes/kubernetes.io~empty-dir/cache", None),
    ],
)
def test_empty_dirs_are_known_by_their_place(path: str, found: EmptyDir | None):
    assert kubernetes.empty_dir(path, KUBELET) == found


def test_a_bound_part_is_told_by_its_root():
    assert kubernetes.bound_part("/vol/a/b", "/vol") == "a/b"
    assert kubernetes.bound_part("/vol", "/vol") == ""
    assert kubernetes.bound_part("/volume", "/vol") is None


def test_mountinfo_tells_the_uppermost_mount_with_escapes_undone():
    lines = (
        "36 35 98:0 /mnt1 /mnt\\0402 rw,noatime master:1 - ext3 /dev/root rw,errors=continue",
        "37 35 0:5 / /mnt\\0402 rw shared:7 - tmpfs tmpfs rw,size=1024k",
        "garbage",
    )
    found = mountinfo.mounted("\n".join(lines))
    assert found == {"/mnt 2": mountinfo.MountedAt("tmpfs", "/", ("rw", "size=1024k"))}


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"{", "mountInfo.json"),
        (b"[]", "mountInfo.json"),
        (b'{"device": "x", "fstype": "ext4"}', "not an absolute path"),
        (b'{"device": "/x", "fstype": "nfs"}', "'nfs' is not known"),
        (b'{"device": "/x", "fstype": "ext4", "metadata": {"fsGroup": "-1"}}', "fsGroup '-1' is not a group id"),
        (b'{"device": "/x", "fstype": "ext4", "metadata": {"fsGroup": 1}}', "mountInfo.json"),
    ],
)
def test_a_malformed_description_of_a_direct_volume_is_refused(data: bytes, words: str):
    with pytest.raises(InvalidArgumentError, match=f"direct volume /vol: .*{words}"):
        direct.parse(data, "/vol")


def test_a_direct_volume_is_read_as_its_driver_wrote_it():
    data = b"""{"volume-type": "block", "device": "/dev/sdf", "fstype": "xfs", "options": ["ro"],
        "metadata": {"fsGroup": "2000", "fsGroupChangePolicy": "OnRootMismatch"}, "more": 1}"""
    volume = direct.parse(data, "/vol")
    assert volume == DirectVolume("/dev/sdf", "xfs", ("ro",), 2000, True)
    assert volume.read_only


def test_a_direct_volume_whose_directory_is_none_is_told_and_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "root").write_text("a file")
    monkeypatch.setattr(direct, "ROOT", tmp_path / "root")

    with pytest.raises(SandboxError, match="direct volume /vol: Not a directory"):
        direct.record("/vol", "c1")
    direct.forget("/vol", "c1")
