"""Contract: containerd's mount options become flags and data as mount(8) would have them; nothing leaves the rootfs."""

from __future__ import annotations

import pytest

from sandbox import mounts
from sandbox.errors import InvalidArgumentError, SandboxError, UnimplementedError
from sandbox.interface import Mount


def test_flags_and_data_are_split_and_propagation_is_dropped():
    flags, data = mounts.parse_options(["ro", "nosuid", "rprivate", "lowerdir=/a:/b", "index=off", "defaults"])
    assert flags == 0x1 | 0x2
    assert data == ["lowerdir=/a:/b", "index=off"]


def test_later_options_win():
    assert mounts.parse_options(["ro", "rw"])[0] == 0
    assert mounts.parse_options(["rw", "ro"])[0] == 1


def test_a_loop_mount_is_refused_clearly():
    with pytest.raises(UnimplementedError, match="loop"):
        mounts.parse_options(["loop"])


@pytest.mark.parametrize("option", ["uidmap=0:65536:65536", "gidmap=0:65536:65536"])
def test_mapped_ids_are_refused_by_what_asked_for_them(option: str):
    with pytest.raises(UnimplementedError, match=f"user namespaces .* not supported: mount option {option}"):
        mounts.parse_options(["ro", option])


def test_a_target_outside_the_rootfs_is_refused(tmp_path):
    with pytest.raises(InvalidArgumentError, match="leaves the root file system"):
        mounts.mount_rootfs([Mount("tmpfs", "tmpfs", "../../etc")], tmp_path / "rootfs")


def test_a_missing_bind_source_is_named(tmp_path):
    with pytest.raises(InvalidArgumentError, match=r"/no/such/dir does not exist"):
        mounts.mount_rootfs([Mount("bind", "/no/such/dir", options=("rbind",))], tmp_path)


@pytest.mark.parametrize("kind", ["mkdir/overlay", "format/erofs"])
def test_what_containerds_mount_manager_is_to_do_first_is_not_done_here(tmp_path, kind):
    with pytest.raises(UnimplementedError, match=kind):
        mounts.mount_rootfs([Mount(kind, "overlay")], tmp_path)


def test_a_mount_that_fails_names_what_and_why(tmp_path):
    with pytest.raises(SandboxError, match=r"mount nosuchfs dev on .*: .+"):
        mounts.mount_rootfs([Mount("nosuchfs", "dev")], tmp_path)


def test_a_layer_that_is_not_there_is_named(tmp_path):
    (tmp_path / "base").mkdir()
    options = (f"lowerdir={tmp_path}/base:{tmp_path}/mnt/2", f"upperdir={tmp_path}/mnt/3/upper")

    with pytest.raises(SandboxError, match=f"mount nosuchfs dev on .*{tmp_path}/mnt/2 is not there"):
        mounts.mount_rootfs([Mount("nosuchfs", "dev", options=options)], tmp_path)


def test_overlay_data_longer_than_a_page_is_made_relative(tmp_path, monkeypatch):
    layers = [tmp_path / "snapshots" / str(number) / "fs" for number in range(120)]
    seen = []
    monkeypatch.setattr(mounts, "mount", lambda source, target, kind, flags, data: seen.append(data))
    for layer in layers:
        layer.mkdir(parents=True)
    option = "lowerdir=" + ":".join(str(layer) for layer in layers)
    assert len(option) > 4096

    mounts.mount_rootfs([Mount("overlay", "overlay", options=(option,))], tmp_path)

    assert len(seen[0]) < 4096
    assert seen[0].startswith("lowerdir=0/fs:1/fs:")


def test_only_the_beginning_of_a_layer_s_path_is_left_out(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(mounts, "mount", lambda source, target, kind, flags, data: seen.append(data))
    layers = [f"{tmp_path}/{number}{tmp_path}/fs" for number in range(100)]

    mounts.mount_rootfs([Mount("overlay", "overlay", options=("lowerdir=" + ":".join(layers), "index=off"))], tmp_path)

    assert seen[0].startswith(f"lowerdir=0{tmp_path}/fs:1{tmp_path}/fs:")
    assert seen[0].endswith("/fs,index=off")


@pytest.mark.parametrize("link", ["/etc", "../../outside"])
def test_a_target_that_a_link_of_the_image_leads_outside_is_refused(tmp_path, link, monkeypatch):
    made = []
    monkeypatch.setattr(mounts, "mount", lambda source, target, *_: made.append(target))
    rootfs = tmp_path / "rootfs"
    rootfs.mkdir()
    (rootfs / "etc").symlink_to(link)

    with pytest.raises(InvalidArgumentError, match="leaves the root file system"):
        mounts.mount_rootfs([Mount("tmpfs", "tmpfs", "etc/ssl")], rootfs)

    assert made == []


def test_a_target_inside_may_be_a_link(tmp_path, monkeypatch):
    made = []
    monkeypatch.setattr(mounts, "mount", lambda source, target, *_: made.append(target))
    (tmp_path / "rootfs" / "usr" / "lib").mkdir(parents=True)
    (tmp_path / "rootfs" / "lib").symlink_to("usr/lib")
    (tmp_path / "link").symlink_to("rootfs")

    mounts.mount_rootfs([Mount("tmpfs", "tmpfs", "lib")], tmp_path / "link")

    assert made == [tmp_path / "link" / "lib"]
