"""A copy that follows its source: whole versions, no torn files, nothing of the source followed out of it."""

from __future__ import annotations

import os
import stat

import pytest

from guest.agent.storage import mirror as module
from guest.agent.storage.mirror import ChangedError, Mirror, TooLargeError, snapshot


@pytest.fixture
def source(tmp_path):
    place = tmp_path / "source"
    place.mkdir()
    return place


@pytest.fixture
def target(tmp_path):
    return tmp_path / "target"


@pytest.fixture
def copy(source, target):
    return Mirror(str(source), str(target))


def publish(volume, version, keys):
    """As Kubernetes' AtomicWriter does it; the old version is removed."""
    old = os.readlink(volume / "..data") if (volume / "..data").is_symlink() else None
    data = volume / f"..{version}"
    data.mkdir()
    for key, text in keys.items():
        (data / key).write_text(text)
    (volume / "..data_tmp").symlink_to(data.name)
    (volume / "..data_tmp").rename(volume / "..data")
    for key in keys:
        if not (volume / key).is_symlink():
            (volume / key).symlink_to(f"..data/{key}")
    for entry in volume.iterdir():
        if not entry.name.startswith("..") and entry.name not in keys:
            entry.unlink()
    if old is not None:
        for path in (volume / old).iterdir():
            path.unlink()
        (volume / old).rmdir()


def tree(place):
    return {
        str(path.relative_to(place)): os.readlink(path)
        if path.is_symlink()
        else path.read_text()
        if path.is_file()
        else None
        for path in sorted(place.rglob("*"))
    }


def test_a_tree_is_copied_with_modes_and_links(source, target, copy):
    (source / "sub").mkdir(mode=0o750)
    (source / "sub/script").write_text("#!/bin/sh\n")
    (source / "sub/script").chmod(0o555)
    (source / "link").symlink_to("/etc/passwd")

    assert copy.update()

    assert tree(target) == tree(source)
    assert stat.S_IMODE((target / "sub/script").stat().st_mode) == 0o555
    assert stat.S_IMODE((target / "sub").stat().st_mode) == 0o750


def test_nothing_is_done_where_nothing_has_changed(source, copy):
    (source / "file").write_text("x")
    copy.update()

    assert not copy.update()


@pytest.mark.parametrize("keys", [{"a": "2", "b": "2"}, {"a": "2", "c": "2"}, {}])
def test_a_new_version_replaces_the_old_one_whole(source, target, copy, keys):
    publish(source, "v1", {"a": "1", "b": "1"})
    copy.update()

    publish(source, "v2", keys)
    assert copy.update()

    assert tree(target) == tree(source)


def test_at_no_moment_is_a_published_name_missing_or_old_and_new_mixed(source, target, copy, monkeypatch):
    publish(source, "v1", {"a": "1", "b": "1"})
    copy.update()
    publish(source, "v2", {"a": "2", "b": "2", "c": "2"})
    seen = []

    def watch(name):
        plain = getattr(os, name)

        def call(*arguments, **more):
            seen.append((target / "a").read_text() + (target / "b").read_text())
            assert not (target / "c").is_symlink() or (target / "c").read_text() == "2"
            return plain(*arguments, **more)

        monkeypatch.setattr(module.os, name, call)

    for name in ("rename", "symlink", "unlink", "mkdir", "chmod"):
        watch(name)
    copy.update()

    assert set(seen) == {"11", "22"}
    assert sorted(seen) == seen


def test_a_file_outside_of_versions_is_replaced_by_a_move(source, target, copy):
    (source / "file").write_text("old")
    copy.update()
    with open(target / "file") as reader:
        (source / "file").write_text("longer than before")
        copy.update()

        assert reader.read() == "old"
    assert (target / "file").read_text() == "longer than before"


def test_a_change_while_copying_publishes_nothing_and_the_next_update_does(source, target, copy, monkeypatch):
    publish(source, "v1", {"a": "1"})
    copy.update()
    publish(source, "v2", {"a": "2"})
    plain = Mirror._copy_file

    def change_then_copy(self, *arguments):
        publish(source, "v3", {"a": "3"})
        monkeypatch.setattr(Mirror, "_copy_file", plain)
        return plain(self, *arguments)

    monkeypatch.setattr(Mirror, "_copy_file", change_then_copy)
    with pytest.raises((ChangedError, OSError)):
        copy.update()
    assert (target / "a").read_text() == "1"

    copy.update()

    assert (target / "a").read_text() == "3"
    assert tree(target) == tree(source)


def test_a_kind_may_change(source, target, copy):
    (source / "x").mkdir()
    (source / "x/y").write_text("1")
    (source / "z").write_text("1")
    copy.update()
    (source / "x/y").unlink()
    (source / "x").rmdir()
    (source / "x").write_text("now a file")
    (source / "z").unlink()
    (source / "z").mkdir()

    copy.update()

    assert tree(target) == tree(source)


def test_a_single_file_keeps_its_inode_for_it_is_bound_somewhere(tmp_path):
    (tmp_path / "source").write_text("old and long")
    copy = Mirror(str(tmp_path / "source"), str(tmp_path / "target"))
    copy.update()
    inode = (tmp_path / "target").stat().st_ino

    (tmp_path / "new").write_text("new")
    (tmp_path / "new").rename(tmp_path / "source")
    copy.update()

    assert (tmp_path / "target").read_text() == "new"
    assert (tmp_path / "target").stat().st_ino == inode


def test_a_file_that_becomes_a_link_is_not_followed(tmp_path):
    (tmp_path / "source").write_text("x")
    copy = Mirror(str(tmp_path / "source"), str(tmp_path / "target"))
    copy.update()
    (tmp_path / "source").unlink()
    (tmp_path / "source").symlink_to("/etc/passwd")

    with pytest.raises(OSError):
        copy.update()

    assert (tmp_path / "target").read_text() == "x"


def test_sockets_and_pipes_are_left_out(source, target, copy):
    os.mkfifo(source / "pipe")

    copy.update()

    assert list(target.iterdir()) == []


def test_more_entries_bytes_or_levels_than_can_be_followed_are_told(source, monkeypatch):
    monkeypatch.setattr(module, "MAX_ENTRIES", 3)
    monkeypatch.setattr(module, "MAX_BYTES", 10)
    monkeypatch.setattr(module, "MAX_DEPTH", 2)
    (source / "file").write_text("x" * 10)
    snapshot(str(source))

    (source / "file").write_text("x" * 11)
    with pytest.raises(TooLargeError):
        snapshot(str(source))
    (source / "file").unlink()
    (source / "a/b/c").mkdir(parents=True)
    with pytest.raises(TooLargeError):
        snapshot(str(source))


def test_many_and_large_files_are_followed(source, target, copy):
    for number in range(100):
        (source / f"key{number}").write_text(str(number))
    (source / "large").write_bytes(bytes(2 << 20))

    copy.update()

    assert len(list(target.iterdir())) == 101
    assert (target / "large").stat().st_size == 2 << 20
