"""`[hypervisor.qemu]`: the defaults that depend on other keys, and the counting of CPUs."""

from __future__ import annotations

from pathlib import Path

import pytest

from config import load
from config.hypervisor import VIRTIOFSD_PLACES, HypervisorConfig, complete


def test_without_a_guest_of_its_own_a_configuration_gets_ours_whole(write):
    vm = load(write("[hypervisor.qemu]\nimage = ''\ninitrd = ''\n")).hypervisor

    assert (vm.image, vm.initrd, vm.rootfs_type) == (
        Path("/usr/share/kata-shim/kata-image.erofs"),
        Path("/usr/share/kata-shim/kata-initrd.img"),
        "erofs",
    )


def test_a_stock_image_is_not_mixed_with_our_initrd(write):
    vm = load(write("[hypervisor.qemu]\nimage = '/opt/kata/kata-containers.img'\n")).hypervisor

    assert (vm.image, vm.initrd, vm.rootfs_type) == (Path("/opt/kata/kata-containers.img"), None, "ext4")


def test_a_stock_initrd_is_not_mixed_with_our_image(write):
    vm = load(write("[hypervisor.qemu]\ninitrd = '/opt/kata/initrd.img'\nimage = ''\n")).hypervisor

    assert (vm.image, vm.initrd) == (None, Path("/opt/kata/initrd.img"))


def test_image_and_initrd_together_are_legal(write):
    vm = load(write("[hypervisor.qemu]\ninitrd = '/i'\nimage = '/r'\nrootfs_type = 'erofs'\n")).hypervisor

    assert (vm.image, vm.initrd, vm.rootfs_type) == (Path("/r"), Path("/i"), "erofs")


@pytest.mark.parametrize("way", ["virtio-fs", "virtio-9p", "none"])
def test_each_way_to_share_is_taken_without_a_warning(write, way):
    loaded = load(write(f"[hypervisor.qemu]\nshared_fs = '{way}'\nmsize_9p = 65536\n"))

    assert (loaded.hypervisor.shared_fs, loaded.hypervisor.msize_9p) == (way, 65536)
    assert loaded.ignored == ()


@pytest.mark.parametrize("present", VIRTIOFSD_PLACES)
def test_virtiofsd_is_the_first_that_exists(present):
    assert complete({}, exists=lambda path: path == present)["virtio_fs_daemon"] == present


def test_virtiofsd_that_is_nowhere_is_the_first_place_so_that_the_check_can_name_it():
    assert complete({}, exists=lambda path: False)["virtio_fs_daemon"] == VIRTIOFSD_PLACES[0]


def test_a_configured_virtiofsd_is_kept_even_if_it_does_not_exist():
    given = {"virtio_fs_daemon": Path("/opt/virtiofsd")}

    assert complete(given, exists=lambda path: True)["virtio_fs_daemon"] == Path("/opt/virtiofsd")


@pytest.mark.parametrize(
    ("configured", "host", "boots_with"),
    [(1.0, 4, 1), (0.0, 4, 1), (0.5, 4, 1), (1.5, 4, 2), (8.0, 4, 4), (-1.0, 4, 4), (-0.5, 4, 4), (1000.0, 500, 240)],
)
def test_vcpus_at_boot_follow_katas_rules(configured, host, boots_with):
    assert HypervisorConfig(default_vcpus=configured).boot_vcpus(host) == boots_with


@pytest.mark.parametrize(
    ("most", "first", "host", "expected"),
    [(0, 1.0, 4, 4), (2, 1.0, 4, 2), (8, 1.0, 4, 4), (0, 1.0, 500, 240), (2, -1.0, 4, 4)],
)
def test_the_most_vcpus_are_bounded_by_the_host_and_never_below_the_boot(most, first, host, expected):
    assert HypervisorConfig(default_maxvcpus=most, default_vcpus=first).most_vcpus(host) == expected
