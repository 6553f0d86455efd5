"""The root file system as a value."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from guest.image import tree


@pytest.mark.parametrize(
    ("packaged", "path"),
    [
        ("./bin/ip", "usr/bin/ip"),
        ("./lib64/ld.so", "usr/lib64/ld.so"),
        ("./usr/bin/crun", "usr/bin/crun"),
        ("./etc/x", "etc/x"),
        ("binary", "binary"),
    ],
)
def test_paths_are_those_of_the_merged_layout(packaged: str, path: str) -> None:
    assert tree.merged(packaged) == path


def test_a_path_that_leaves_the_tree_is_refused() -> None:
    with pytest.raises(ValueError, match="leaves the tree"):
        tree.merged("./usr/../../etc/shadow")


def test_links_are_followed_absolute_and_relative() -> None:
    nodes = {
        "usr/lib64/ld.so": tree.symlink("/lib/x86/ld.so.2"),
        "usr/lib/x86/ld.so.2": tree.symlink("ld-2.36.so"),
        "usr/lib/x86/ld-2.36.so": tree.file(b""),
    }

    assert tree.resolve(nodes, "usr/lib64/ld.so") == "usr/lib/x86/ld-2.36.so"


def test_links_that_go_up_are_followed() -> None:
    nodes = {"usr/sbin/modprobe": tree.symlink("../bin/busybox"), "usr/bin/busybox": tree.file(b"")}

    assert tree.resolve(nodes, "usr/sbin/modprobe") == "usr/bin/busybox"


def test_a_circle_of_links_is_an_error() -> None:
    with pytest.raises(KeyError):
        tree.resolve({"a": tree.symlink("b"), "b": tree.symlink("a")}, "a")


def test_parents_come_before_their_children_and_keep_their_modes() -> None:
    full = tree.with_parents({"usr/lib/x": tree.file(b""), "usr": tree.directory(0o700)})

    assert list(full) == ["usr", "usr/lib", "usr/lib/x"]
    assert full["usr"].mode & 0o777 == 0o700


def test_a_written_tree_has_its_modes_whatever_the_umask_is(tmp_path: Path) -> None:
    nodes = {"tmp": tree.directory(0o1777), "bin/sh": tree.symlink("busybox"), "bin/busybox": tree.file(b"x", 0o755)}
    before = os.umask(0o077)
    try:
        tree.write(nodes, tmp_path)
    finally:
        os.umask(before)

    assert (tmp_path / "tmp").stat().st_mode & 0o7777 == 0o1777
    assert (tmp_path / "bin").stat().st_mode & 0o7777 == 0o755
    assert (tmp_path / "bin/busybox").stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "bin/sh").readlink() == Path("busybox")


@pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="dpkg is not installed")
def test_wanted_files_and_links_come_out_of_a_package(tmp_path: Path) -> None:
    package = tmp_path / "p"
    (package / "DEBIAN").mkdir(parents=True)
    (package / "DEBIAN/control").write_text(
        "Package: p\nVersion: 1\nArchitecture: all\nMaintainer: a <a@b>\nDescription: p\n"
    )
    (package / "bin").mkdir()
    (package / "bin/tool").write_bytes(b"tool")
    (package / "bin/tool").chmod(0o755)
    (package / "bin/link").symlink_to("tool")
    (package / "bin/other").write_bytes(b"other")
    deb = tmp_path / "p.deb"
    build = ["dpkg-deb", "--root-owner-group", "--build", str(package), str(deb)]
    subprocess.run(build, check=True, capture_output=True, timeout=30)

    nodes = tree.unpack(deb, lambda path: path != "usr/bin/other")

    assert nodes == {"usr/bin/tool": tree.file(b"tool", 0o755), "usr/bin/link": tree.symlink("tool")}
