"""Walking below a root never leaves it by a link."""

from __future__ import annotations

import os

import pytest

from guest.agent import beneath
from guest.agent.errors import InvalidArgumentError, NotFoundError


def opened(fd: int) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{fd}")
    finally:
        os.close(fd)


def test_a_directory_is_opened_and_made_on_the_way(tmp_path):
    root = str(tmp_path / "root")

    assert opened(beneath.open_directory(root, f"{root}/a/b", 0o755)) == f"{root}/a/b"


def test_a_missing_directory_is_not_made_unasked(tmp_path):
    with pytest.raises(NotFoundError):
        beneath.open_directory(str(tmp_path), f"{tmp_path}/a")


@pytest.mark.parametrize("target", ["/etc", "..", "real"])
def test_no_link_is_followed_wherever_it_leads(tmp_path, target):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(target)

    with pytest.raises(InvalidArgumentError, match="link"):
        beneath.open_directory(str(tmp_path), f"{tmp_path}/link/x", 0o755)


def test_the_last_component_may_not_be_a_link_either(tmp_path):
    (tmp_path / "link").symlink_to("/etc/passwd")

    with pytest.raises(InvalidArgumentError, match="symbolic link"):
        beneath.open_path(str(tmp_path), f"{tmp_path}/link", "source")


def test_a_file_is_opened_by_its_path(tmp_path):
    (tmp_path / "file").write_text("x")

    assert opened(beneath.open_path(str(tmp_path), f"{tmp_path}/file", "source")) == f"{tmp_path}/file"


def test_a_path_outside_of_the_root_is_refused(tmp_path):
    with pytest.raises(InvalidArgumentError):
        beneath.open_parent(str(tmp_path / "root"), str(tmp_path / "other"), "path")


def test_a_tree_is_removed_without_following_links(tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").write_text("x")
    tree = tmp_path / "tree"
    (tree / "a" / "b").mkdir(parents=True)
    (tree / "a" / "file").write_text("x")
    (tree / "a" / "out").symlink_to(outside)

    beneath.remove_tree(str(tree))

    assert not tree.exists()
    assert (outside / "kept").exists()


def test_removing_what_is_not_there_is_no_error(tmp_path):
    beneath.remove_tree(str(tmp_path / "nothing"))


def test_no_descriptor_is_left_open(tmp_path):
    before = len(os.listdir("/proc/self/fd"))
    (tmp_path / "link").symlink_to("/")

    for path in ("a/b", "link/x"):
        try:
            os.close(beneath.open_directory(str(tmp_path), f"{tmp_path}/{path}"))
        except (NotFoundError, InvalidArgumentError):
            pass

    assert len(os.listdir("/proc/self/fd")) == before
