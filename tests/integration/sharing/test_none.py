"""shared_fs = "none": the guest has copies, and no way to the host's files."""

from __future__ import annotations

import hashlib
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.bed import Bed
from tests.harness.fixtures import BedKeeper
from tests.integration.sharing.conftest import mount
from tests.integration.storage.pod import configured
from tests.integration.system.conftest import VmKeeper, vm
from tests.integration.system.vm import Vm

__all__ = ["vm"]

pytestmark = pytest.mark.integration

#: As many files as are copied in a test; a rate comes of it.
FILES = 2000


@pytest.fixture(scope="module")
def vm_keeper(bed_keeper: BedKeeper, tmp_path_factory: pytest.TempPathFactory) -> Iterator[VmKeeper]:
    """Owner of a pod whose containers have copies; checks that removing it leaves nothing."""

    def make(bed: Bed, name: str) -> Vm:
        vm = Vm(bed, name)
        vm.ctr = configured(bed, tmp_path_factory.mktemp("none"), "[hypervisor.qemu]\nshared_fs = 'none'\n")
        return vm

    bed = bed_keeper.bed()
    check = bed.leak_check()
    keeper = VmKeeper(bed_keeper, "none", make)
    yield keeper
    keeper.close()
    if bed is bed_keeper.bed():
        check.assert_clean()


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A directory with something of everything."""
    directory = tmp_path / "place"
    (directory / "locked").mkdir(parents=True)
    (directory / "locked" / "inside").write_text("in a locked directory")
    (directory / "large").write_bytes(os.urandom(3 << 20) + b"the odd end")
    (directory / "empty").touch()
    (directory / "with space and umlaut ü").write_text("named")
    (directory / "link").symlink_to("locked/inside")
    (directory / "dangling").symlink_to("/no/such/place")
    os.mkfifo(directory / "fifo")
    os.chown(directory / "locked" / "inside", 1234, 4321)
    os.chmod(directory / "locked" / "inside", 0o4750)
    os.chmod(directory / "locked", 0o500)
    return directory


def test_a_container_has_copies_of_everything_as_it_was(vm: Vm, place: Path):
    script = """
        cd /place
        grep -c virtiofs /proc/mounts
        grep -c '^tmpfs / tmpfs rw,relatime' /proc/mounts
        stat -c '%n %a %u %g %F' empty locked locked/inside
        readlink link
        readlink dangling
        cat link; echo
        cat with*; echo
        md5sum < large
        echo *
        echo changed > empty
        stat -c %a /tmp /root
    """
    done = vm.run("sh", "-c", script, options=mount(place, "/place")).check()
    assert done.text.splitlines() == [
        "0",
        "1",
        "empty 644 0 0 regular empty file",
        "locked 500 0 0 directory",
        "locked/inside 4750 1234 4321 regular file",
        "locked/inside",
        "/no/such/place",
        "in a locked directory",
        "named",
        f"{hashlib.md5((place / 'large').read_bytes()).hexdigest()}  -",
        "dangling empty large link locked with space and umlaut ü",
        *("1777", "700"),
    ]
    assert (place / "empty").read_bytes() == b""


def test_other_volumes_stay_as_they_were(vm: Vm, tmp_path: Path):
    (tmp_path / "volume").mkdir()
    (tmp_path / "volume" / "file").write_text("first")
    with vm.image_container("sleep", "100", options=mount(tmp_path / "volume", "/volume")) as container:
        (tmp_path / "volume" / "file").write_text("second")
        assert vm.exec(container, "cat", "/volume/file").check().text == "first"


def test_a_read_only_volume_is_read_only(vm: Vm, place: Path):
    done = vm.run("sh", "-c", "echo x > /place/empty", options=mount(place, "/place", "rbind:ro"))
    assert "Read-only file system" in done.error_text


def test_a_file_s_cost_is_known(vm: Vm, tmp_path: Path):
    (tmp_path / "many").mkdir()
    for number in range(FILES):
        (tmp_path / "many" / str(number)).write_text("x")
    began = time.monotonic()
    done = vm.run("sh", "-c", "ls /many | wc -l", options=mount(tmp_path / "many", "/many")).check()
    print(f"a container with {FILES} copied files: {time.monotonic() - began:.1f} s")
    assert done.text == str(FILES)


def test_too_many_files_are_refused_with_what_to_do(vm: Vm, tmp_path: Path):
    (tmp_path / "many").mkdir()
    for number in range(20_001):
        (tmp_path / "many" / str(number)).touch()
    done = vm.run("true", options=mount(tmp_path / "many", "/many"))
    assert f"{tmp_path}/many has more than 20000 entries" in done.error_text
    assert 'use shared_fs = "virtio-fs"' in done.error_text


def test_a_socket_can_not_be_a_volume(vm: Vm, tmp_path: Path):
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "server.sock"))
        done = vm.run("true", options=mount(tmp_path / "server.sock", "/server.sock"))
    assert f"{tmp_path}/server.sock is a socket, which can't be copied into the guest" in done.error_text


def test_a_guest_without_room_says_so_and_the_pod_goes_on(vm: Vm, tmp_path: Path):
    (tmp_path / "volume").write_bytes(os.urandom(1 << 20))
    # A container's root file system is in the same memory as all copies.
    with vm.image_container() as other:
        filling = "dd if=/dev/zero of=/full bs=64k"
        assert "No space left on device" in vm.exec(other, *filling.split()).error_text
        done = vm.run("true", options=mount(tmp_path / "volume", "/volume"))
        assert "No space left on device" in done.error_text
        assert len(done.error_text.splitlines()) == 1
        assert vm.exec(other, "rm", "/full").returncode == 0
        assert vm.run("wc", "-c", "/volume", options=mount(tmp_path / "volume", "/volume")).check().text.split()[0] == (
            str(1 << 20)
        )
