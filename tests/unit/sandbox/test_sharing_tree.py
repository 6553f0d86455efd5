"""Contract: a directory is read as it is, whatever is in it and whatever happens to it meanwhile."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

import pytest

from sandbox.errors import InvalidArgumentError, SandboxError
from sandbox.sharing import tree
from sandbox.sharing.tree import CHUNK, Piece, Tree


def pieces(source: Path, **options) -> dict[str, Piece]:
    return {piece.path: piece for piece in Tree(source, **options).pieces()}


def test_a_directory_comes_before_what_is_in_it_with_modes_and_owners(tmp_path: Path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "file").write_text("text")
    (tmp_path / "a" / "b" / "file").chmod(0o640)
    found = list(Tree(tmp_path).pieces())
    assert [piece.path for piece in found] == ["", "a", "a/b", "a/b/file"]
    assert found[-1] == Piece("a/b/file", stat.S_IFREG | 0o640, os.getuid(), os.getgid(), 4, 0, b"text")
    assert stat.S_ISDIR(found[0].mode)


def test_a_file_can_be_the_tree(tmp_path: Path):
    (tmp_path / "hosts").write_text("127.0.0.1 localhost")
    (only,) = Tree(tmp_path / "hosts").pieces()
    assert (only.path, only.data) == ("", b"127.0.0.1 localhost")


@pytest.mark.parametrize("size", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 2 * CHUNK + 5])
def test_a_file_comes_in_pieces_that_make_it_up(tmp_path: Path, size: int):
    content = bytes(number % 251 for number in range(size))
    (tmp_path / "file").write_bytes(content)
    found = list(Tree(tmp_path / "file").pieces())
    assert b"".join(piece.data for piece in found) == content
    assert {piece.size for piece in found} == {size}
    assert [piece.offset for piece in found] == list(range(0, max(size, 1), CHUNK))


def test_a_file_that_shrinks_meanwhile_keeps_its_size(tmp_path: Path):
    path = tmp_path / "file"
    path.write_bytes(b"x" * (CHUNK + 10))
    found = Tree(path).pieces()
    first = next(found)
    os.truncate(path, 5)
    (second,) = found
    assert (first.size, second.size, second.data) == (CHUNK + 10, CHUNK + 10, bytes(10))


def test_links_are_copied_and_never_followed(tmp_path: Path):
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "out").symlink_to("/etc")
    (tmp_path / "tree" / "dangling").symlink_to("no/such")
    found = pieces(tmp_path / "tree")
    assert found.keys() == {"", "out", "dangling"}
    assert found["out"].data == b"/etc"
    assert stat.S_ISLNK(found["out"].mode)
    assert (found["dangling"].data, found["dangling"].size) == (b"no/such", 7)


def test_a_directory_that_becomes_a_link_meanwhile_is_not_entered(tmp_path: Path):
    (tmp_path / "tree" / "inner").mkdir(parents=True)
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "file").write_text("secret")
    found = Tree(tmp_path / "tree").pieces()
    assert next(found).path == ""
    assert next(found).path == "inner"
    (tmp_path / "tree" / "inner").rmdir()
    (tmp_path / "tree" / "inner").symlink_to("../secret")
    assert list(found) == []


def test_a_file_that_vanishes_meanwhile_is_left_out(tmp_path: Path):
    for name in ("a", "b", "c"):
        (tmp_path / name).write_text(name)
    found = Tree(tmp_path).pieces()
    seen = {next(found).path, next(found).path}
    for name in {"a", "b", "c"} - seen:
        (tmp_path / name).unlink()
    assert list(found) == []


def test_special_files_and_names_that_are_no_text_are_left_out_and_counted(tmp_path: Path):
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / os.fsdecode(b"not\xff\xfeutf-8")).write_text("x")
    (tmp_path / "ünïcode").write_text("x")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket"))
        found = Tree(tmp_path)
        assert {piece.path for piece in found.pieces()} == {"", "ünïcode"}
    assert found.left_out == {"fifo": 1, "socket": 1, "name that is not UTF-8": 1}


def test_a_special_file_is_no_tree(tmp_path: Path):
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(InvalidArgumentError, match=r"fifo is a fifo, which can't be copied into the guest"):
        list(Tree(tmp_path / "fifo").pieces())


def test_what_is_not_there_is_named(tmp_path: Path):
    with pytest.raises(SandboxError, match=r"copy .*/nothing: .*/nothing: No such file or directory"):
        list(Tree(tmp_path / "nothing").pieces())


def test_number_and_depth_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(tree, "MAX_ENTRIES", 3)
    monkeypatch.setattr(tree, "MAX_DEPTH", 5)
    for name in "abcd":
        (tmp_path / "wide" / name).mkdir(parents=True)
    (tmp_path / "deep" / "1/2/3/4/5").mkdir(parents=True)
    with pytest.raises(InvalidArgumentError, match=r'wide has more than 3 entries, .*use shared_fs = "virtio-fs"'):
        Tree(tmp_path / "wide").check()
    monkeypatch.setattr(tree, "MAX_ENTRIES", 100)
    with pytest.raises(InvalidArgumentError, match="deep is nested deeper than 5 directories"):
        Tree(tmp_path / "deep").check()


def test_a_check_reads_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "file").write_text("x")
    monkeypatch.setattr(os, "pread", lambda *_: pytest.fail("a file was read"))
    Tree(tmp_path).check()


def test_what_is_known_is_not_read_again_and_what_is_to_be_skipped_not_at_all(tmp_path: Path):
    for name in ("known", "new", "skipped"):
        (tmp_path / name).write_text(name)
    found = pieces(tmp_path, skip=frozenset({"skipped"}), is_known=lambda path, status: path == "known")
    assert found.keys() == {"", "new"}


def test_no_descriptor_is_left_behind(tmp_path: Path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "file").write_bytes(b"x" * 2 * CHUNK)
    before = os.listdir("/proc/self/fd")
    list(Tree(tmp_path).pieces())
    given_up = Tree(tmp_path).pieces()
    for _ in range(4):
        next(given_up)
    given_up.close()
    assert os.listdir("/proc/self/fd") == before
