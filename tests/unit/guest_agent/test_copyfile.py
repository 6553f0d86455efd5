"""CopyFile: whole files appear at once, and nothing outside of the share is touched."""

from __future__ import annotations

import os
import stat

import pytest

from guest.agent.copyfile import copy_file
from guest.agent.errors import InvalidArgumentError, RpcError
from protos.lean.gen.grpc import CopyFileRequest


@pytest.fixture
def copy(layout):
    def copy(path, data=b"", mode=0o100644, size=None, **fields):
        owner = {"uid": os.getuid(), "gid": os.getgid()}
        request = CopyFileRequest(
            path=f"{layout.shared_containers}/{path}",
            data=data,
            file_mode=mode,
            file_size=len(data) if size is None else size,
            **(owner | fields),
        )
        copy_file(request, layout)

    return copy


@pytest.fixture
def share(layout):
    return layout.shared_containers


def test_a_file_is_copied_with_its_mode_and_its_directories(copy, share):
    copy("a/b/file", b"content", 0o100640, dir_mode=0o750)

    with open(f"{share}/a/b/file") as file:
        assert file.read() == "content"
    assert stat.S_IMODE(os.stat(f"{share}/a/b/file").st_mode) == 0o640
    assert stat.S_IMODE(os.stat(f"{share}/a/b").st_mode) == 0o750


def test_a_file_appears_with_its_last_chunk_only(copy, share):
    copy("file", b"abc", size=6)
    assert not os.path.exists(f"{share}/file")

    copy("file", b"def", size=6, offset=3)

    with open(f"{share}/file") as file:
        assert file.read() == "abcdef"
    assert sorted(os.listdir(share)) == ["c1", "file"]


def test_a_new_copy_replaces_the_old_file(copy, share):
    copy("file", b"a long first version")

    copy("file", b"short")

    with open(f"{share}/file") as file:
        assert file.read() == "short"


def test_an_empty_file_is_copied(copy, share):
    copy("empty")

    assert os.path.getsize(f"{share}/empty") == 0


def test_a_directory_is_made_or_kept(copy, share):
    copy("dir", mode=0o040700)
    copy("dir", mode=0o040755)

    assert stat.S_IMODE(os.stat(f"{share}/dir").st_mode) == 0o755


def test_a_link_is_made_and_replaced(copy, share):
    copy("..data", b"first", 0o120777)

    copy("..data", b"second", 0o120777)

    assert os.readlink(f"{share}/..data") == "second"


def test_a_link_in_the_way_is_not_followed(copy, share, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    os.symlink(outside, f"{share}/dir")

    with pytest.raises(InvalidArgumentError):
        copy("dir/file", b"x")

    assert list(outside.iterdir()) == []


def test_a_link_at_the_end_is_replaced_and_not_written_through(copy, share, tmp_path):
    target = tmp_path / "target"
    target.write_text("precious")
    os.symlink(target, f"{share}/file")
    os.symlink(target, f"{share}/file.kata-part")

    copy("file", b"x")

    assert target.read_text() == "precious"
    assert not os.path.islink(f"{share}/file")


@pytest.mark.parametrize("path", ["../x", "a/../../x", ".", ""])
def test_a_path_outside_of_the_share_is_refused(copy, path):
    with pytest.raises(InvalidArgumentError):
        copy(path, b"x")


@pytest.mark.parametrize(
    "fields",
    [
        {"data": b"abc", "size": 2},
        {"data": b"abc", "offset": -1},
        {"data": b"abc", "size": 3, "offset": 1},
        {"size": 1 << 50},
        {"mode": 0o020666},
        {"mode": 0o120777},
        {"mode": 0o120777, "data": b"a\0b"},
    ],
)
def test_what_makes_no_sense_is_refused(copy, fields, share):
    with pytest.raises(RpcError):
        copy("file", **fields)

    assert os.listdir(share) == ["c1"]
