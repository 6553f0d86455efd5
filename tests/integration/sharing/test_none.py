"""shared_fs = "none": the guest has copies, and no way to the host's files."""

from __future__ import annotations

import hashlib
import os
import socket
import time
from pathlib import Path

import pytest

from tests.harness.ctr import Ctr
from tests.integration.sharing.conftest import Configure, mount

pytestmark = pytest.mark.integration

#: As many files as are copied in a test; a rate comes of it.
FILES = 2000


@pytest.fixture
def none(configured: Configure) -> Ctr:
    """ctr whose containers have copies."""
    return configured("[hypervisor.qemu]\nshared_fs = 'none'\n")


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


def test_a_container_has_copies_of_everything_as_it_was(none: Ctr, place: Path):
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
    done = none.run("c1", "sh", "-c", script, options=("--rm", *mount(place, "/place"))).check()
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


def test_other_volumes_stay_as_they_were(none: Ctr, tmp_path: Path):
    (tmp_path / "volume").mkdir()
    (tmp_path / "volume" / "file").write_text("first")
    none.run_detached("c1", "sleep", "100", options=mount(tmp_path / "volume", "/volume"))
    (tmp_path / "volume" / "file").write_text("second")
    assert none.exec("c1", "cat", "/volume/file").check().text == "first"
    none.remove("c1")


def test_a_read_only_volume_is_read_only(none: Ctr, place: Path):
    done = none.run("c1", "sh", "-c", "echo x > /place/empty", options=("--rm", *mount(place, "/place", "rbind:ro")))
    assert "Read-only file system" in done.error_text


def test_a_file_s_cost_is_known(none: Ctr, tmp_path: Path):
    (tmp_path / "many").mkdir()
    for number in range(FILES):
        (tmp_path / "many" / str(number)).write_text("x")
    began = time.monotonic()
    done = none.run("c1", "sh", "-c", "ls /many | wc -l", options=("--rm", *mount(tmp_path / "many", "/many"))).check()
    print(f"a container with {FILES} copied files: {time.monotonic() - began:.1f} s")
    assert done.text == str(FILES)


def test_too_many_files_are_refused_with_what_to_do(none: Ctr, tmp_path: Path):
    (tmp_path / "many").mkdir()
    for number in range(20_001):
        (tmp_path / "many" / str(number)).touch()
    done = none.run("c1", "true", options=("--rm", *mount(tmp_path / "many", "/many")))
    assert f"{tmp_path}/many has more than 20000 entries" in done.error_text
    assert 'use shared_fs = "virtio-fs"' in done.error_text


def test_a_socket_can_not_be_a_volume(none: Ctr, tmp_path: Path):
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "server.sock"))
        done = none.run("c1", "true", options=("--rm", *mount(tmp_path / "server.sock", "/server.sock")))
    assert f"{tmp_path}/server.sock is a socket, which can't be copied into the guest" in done.error_text
