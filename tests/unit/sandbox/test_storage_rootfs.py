"""Which of containerd's root file systems are disks, and which layers make one."""

from __future__ import annotations

import pytest

from sandbox.errors import InvalidArgumentError, UnimplementedError
from sandbox.interface import Mount
from sandbox.storage.rootfs import DiskRootfs, Layer, plan_rootfs

OVERLAY = Mount("format/mkdir/overlay", "overlay", "", (
    "X-containerd.mkdir.path={{ mount 0 }}/upper:0755",
    "workdir={{ mount 0 }}/work",
    "upperdir={{ mount 0 }}/upper",
    "lowerdir={{ overlay 2 1 }}",
))  # fmt: skip
LOWERS = [Mount("erofs", f"/layers/{name}", "", ("ro", "loop")) for name in ("base", "top")]


def plan(*mounts: Mount, use_devices: bool = True) -> DiskRootfs | None:
    return plan_rootfs(mounts, use_devices=use_devices, is_device=lambda path: path.startswith("/dev/"))


@pytest.mark.parametrize("kind", ["overlay", "bind", "fuse.x"])
def test_what_is_no_disk_is_shared(kind: str):
    assert plan() is None
    assert plan(Mount(kind, "overlay", "", ("lowerdir=/a:/b",))) is None


def test_a_device_is_plugged_in_if_the_configuration_says_so():
    device = Mount("ext4", "/dev/mapper/thin-1", "", ("discard",))
    assert plan(device) == DiskRootfs((Layer("/dev/mapper/thin-1", "ext4", ("discard",)),))
    assert plan(device, use_devices=False) is None


def test_an_image_file_is_always_plugged_in_without_its_loop_device():
    image = Mount("xfs", "/images/a", "", ("loop", "ro"))
    assert plan(image, use_devices=False) == DiskRootfs((Layer("/images/a", "xfs", ("ro",), read_only=True),))


def test_layers_are_in_the_order_of_the_overlay_and_its_directories_on_the_writable_one():
    found = plan(Mount("ext4", "/snapshots/rw", "", ("rw", "loop")), *LOWERS, OVERLAY)
    assert found is not None
    assert [layer.source for layer in found.layers] == ["/layers/top", "/layers/base"]
    assert all(layer.read_only for layer in found.layers)
    assert found.upper == Layer("/snapshots/rw", "ext4", ("rw",), directories=("/upper", "/work"))


def test_without_a_writable_layer_the_guest_has_its_memory():
    found = plan(
        *LOWERS, Mount("format/overlay", "", "", ("upperdir=/host/fs", "lowerdir={{ mount 1 }}:{{ mount 0 }}"))
    )
    assert found is not None
    assert (found.upper, found.is_overlay) == (None, True)
    assert [layer.source for layer in found.layers] == ["/layers/top", "/layers/base"]


def test_one_layer_may_be_bound_alone():
    found = plan(LOWERS[0], Mount("format/bind", "{{ mount 0 }}", "", ("ro",)))
    assert found == DiskRootfs((Layer("/layers/base", "erofs", ("ro",), read_only=True),))


@pytest.mark.parametrize(("text", "size"), [("1048576", 1 << 20), ("64MiB", 64 << 20), ("2G", 2 << 30), ("3kb", 3072)])
def test_a_file_system_to_be_made_has_its_size(text: str, size: int):
    writable = Mount("mkfs/ext4", "/snapshots/rw", "", ("rw", "loop", f"X-containerd.mkfs.size={text}"))
    found = plan(writable, *LOWERS, OVERLAY)
    assert found is not None
    assert found.upper is not None
    assert (found.upper.make_size, found.upper.options) == (size, ("rw",))


@pytest.mark.parametrize(
    ("mounts", "error", "words"),
    [
        ([Mount("erofs", "/a", "", ("device=/b",))], UnimplementedError, "erofs with further devices"),
        ([*LOWERS, Mount("format/fuse", "")], UnimplementedError, "type 'format/fuse'"),
        ([Mount("dmverity/erofs", "/a"), OVERLAY], UnimplementedError, "type 'dmverity/erofs'"),
        ([*LOWERS, Mount("format/overlay", "", "", ("lowerdir=/host",))], UnimplementedError, "directory of the host"),
        ([*LOWERS, Mount("format/overlay", "", "", ("lowerdir={{ mount 9 }}",))], InvalidArgumentError, "not there"),
        ([LOWERS[0], Mount("format/bind", "{{ mount 3 }}")], InvalidArgumentError, "names no layer"),
        ([*LOWERS, LOWERS[0], OVERLAY], InvalidArgumentError, "on a read-only layer"),
        ([Mount("mkfs/ext4", "/a")], InvalidArgumentError, "no size for a new file system"),
    ],
)  # fmt: skip
def test_what_can_not_be_put_together_is_refused(mounts: list[Mount], error: type[Exception], words: str):
    with pytest.raises(error, match=words):
        plan(*mounts)


def test_a_directory_can_not_leave_its_layer():
    options = ("lowerdir={{ mount 1 }}", "upperdir={{ mount 0 }}/../../etc", "workdir={{ mount 0 }}/work")
    with pytest.raises(InvalidArgumentError, match="leaves its layer"):
        plan(Mount("ext4", "/rw", "", ("loop",)), *LOWERS, Mount("format/overlay", "", "", options))
