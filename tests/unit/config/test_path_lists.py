"""Lists of paths: what a glob matches, and that links and `..` are no way around it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.path_lists import allowed_path, matches

_PART = st.text("ab.-", min_size=1, max_size=3).filter(lambda part: part not in (".", ".."))
_PATHS = st.lists(_PART, min_size=1, max_size=4).map(lambda parts: "/" + "/".join(parts))


@pytest.mark.parametrize(
    ("path", "pattern", "matched"),
    [
        ("/usr/bin/qemu", "/usr/bin/qemu", True),
        ("/usr/bin/qemu-x", "/usr/bin/qemu", False),
        ("/usr/bin/qemu-x", "/usr/bin/qemu*", True),
        ("/usr/bin/sub/qemu", "/usr/bin/*", False),
        ("/usr/bin/sub/qemu", "/usr/*/*/qemu", True),
        ("/usr/bin/a", "/usr/bin/[ab]", True),
        ("/usr/bin/c", "/usr/bin/[ab]", False),
        ("/usr/bin", "/usr/bin/*", False),
        ("/usr/bin/A", "/usr/bin/a", False),
    ],
)
def test_a_star_stays_within_a_directory(path: str, pattern: str, matched: bool):
    assert matches(path, pattern) is matched


@given(_PATHS, st.lists(_PATHS, max_size=3))
def test_without_wildcards_and_links_a_list_is_a_set(path: str, patterns: list[str]):
    assert (allowed_path(Path(path), patterns, lambda text: text) is not None) == (path in patterns)


@given(_PATHS, _PATHS)
def test_what_a_path_leads_to_is_all_that_is_ever_returned(path: str, target: str):
    patterns = ["/a*/*", "/a*", "/*/*/b"]
    found = allowed_path(Path(path), patterns, lambda text: target if text == path else text)
    if found is not None:
        assert str(found) == target
        assert any(matches(path, pattern) for pattern in patterns)
        assert any(matches(target, pattern) for pattern in patterns)


def test_an_administrator_may_list_a_link_and_a_directory_that_is_one(tmp_path: Path):
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "qemu").touch()
    (tmp_path / "bin").symlink_to("real")
    (tmp_path / "one").symlink_to("real/qemu")
    found = os.path.realpath(tmp_path / "real" / "qemu")
    assert str(allowed_path(tmp_path / "one", [f"{tmp_path}/one"])) == found
    assert str(allowed_path(tmp_path / "bin/qemu", [f"{tmp_path}/bin/q*"])) == found


def test_a_link_out_of_the_listed_directory_is_refused(tmp_path: Path):
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "qemu").symlink_to("/bin/sh")
    assert allowed_path(tmp_path / "bin" / "qemu", [f"{tmp_path}/bin/*"]) is None


def test_wildcards_in_a_name_that_a_link_leads_to_are_letters(tmp_path: Path):
    (tmp_path / "a*").mkdir()
    (tmp_path / "ab").mkdir()
    (tmp_path / "ab" / "x").touch()
    (tmp_path / "link").symlink_to("a*")
    (tmp_path / "a*" / "x").symlink_to("../ab/x")
    assert allowed_path(tmp_path / "link" / "x", [f"{tmp_path}/link/*"]) is None


@pytest.mark.parametrize("pattern", ["*", "usr/*", "/usr/../*/*", ""])
def test_a_pattern_that_is_not_a_plain_absolute_one_allows_nothing(pattern: str):
    assert allowed_path(Path("/usr/bin"), [pattern]) is None
