"""The cpio writer: what the kernel's initramfs format demands."""

from __future__ import annotations

import shutil
import stat
import subprocess

import pytest

from guest.image import cpio


def _parse(archive: bytes) -> list[tuple[str, dict[str, int], bytes]]:
    fields = ["ino", "mode", "uid", "gid", "nlink", "mtime", "size", "major", "minor", "rmajor", "rminor", "namesize"]
    members, at = [], 0
    while at < len(archive):
        assert archive[at : at + 6] == b"070701"
        head = {f: int(archive[at + 6 + 8 * i : at + 14 + 8 * i], 16) for i, f in enumerate(fields)}
        name = archive[at + 110 : at + 110 + head["namesize"] - 1].decode()
        at += 110 + head["namesize"]
        at += -at % 4
        members.append((name, head, archive[at : at + head["size"]]))
        at += head["size"]
        at += -at % 4
    return members


def test_an_archive_holds_its_entries_in_order_and_ends_with_the_trailer() -> None:
    archive = cpio.archive(
        [
            cpio.directory("dev"),
            cpio.char_device("dev/console", 5, 1),
            cpio.file("init", b"#!/bin/sh\n", 0o755),
            cpio.symlink("sh", "bin/busybox"),
        ]
    )

    members = _parse(archive)

    assert [name for name, _, _ in members] == ["dev", "dev/console", "init", "sh", "TRAILER!!!"]
    modes = [head["mode"] for _, head, _ in members]
    assert [stat.S_IFMT(mode) for mode in modes[:4]] == [stat.S_IFDIR, stat.S_IFCHR, stat.S_IFREG, stat.S_IFLNK]
    assert (members[1][1]["rmajor"], members[1][1]["rminor"]) == (5, 1)
    assert members[2][2] == b"#!/bin/sh\n"
    assert stat.S_IMODE(modes[2]) == 0o755
    assert members[3][2] == b"bin/busybox"


def test_the_same_entries_give_the_same_bytes_without_owner_or_time() -> None:
    entries = [cpio.directory("a"), cpio.file("a/b", b"xyz")]

    archive = cpio.archive(entries)

    assert archive == cpio.archive(entries)
    assert all((head["uid"], head["gid"], head["mtime"]) == (0, 0, 0) for _, head, _ in _parse(archive))


@pytest.mark.parametrize("size", range(6))
def test_contents_of_any_length_keep_the_alignment(size: int) -> None:
    archive = cpio.archive([cpio.file("f" * (size + 1), b"x" * size), cpio.file("next", b"y")])

    assert len(archive) % 4 == 0
    assert [data for _, _, data in _parse(archive)] == [b"x" * size, b"y", b""]


@pytest.mark.parametrize("path", ["/abs", "a//b", "../up", "a/..", ".", "", "nul\0", "TRAILER!!!", "x" * 4096])
def test_a_path_that_the_kernel_would_not_unpack_as_meant_is_refused(path: str) -> None:
    with pytest.raises(ValueError, match="not a path"):
        cpio.archive([cpio.file(path, b"")])


def test_the_same_path_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="twice"):
        cpio.archive([cpio.directory("a"), cpio.file("a", b"")])


@pytest.mark.skipif(shutil.which("cpio") is None, reason="cpio is not installed")
def test_cpio_itself_reads_the_archive() -> None:
    archive = cpio.archive([cpio.directory("dev"), cpio.file("dev/file", b"12345")])

    listed = subprocess.run(["cpio", "-it", "--quiet"], input=archive, capture_output=True, check=True, timeout=10)

    assert listed.stdout.split() == [b"dev", b"dev/file"]
