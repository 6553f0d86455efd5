"""Which file is the configuration."""

from __future__ import annotations

from pathlib import Path

import pytest

from config.errors import ConfigError
from config.search import SEARCH_ORDER, find


def test_the_administrators_file_comes_before_the_distributions():
    assert [str(each) for each in SEARCH_ORDER] == [
        "/etc/kata-containers/configuration.toml",
        "/usr/share/defaults/kata-containers/configuration.toml",
    ]


def test_the_first_file_that_exists_is_taken(write, tmp_path):
    first, second = tmp_path / "first.toml", write("", "second.toml")

    assert find(order=(first, second)) == second
    write("", "first.toml")
    assert find(order=(first, second)) == first


def test_an_explicit_path_beats_the_search_order(write):
    listed, explicit = write("", "listed.toml"), write("", "explicit.toml")

    assert find(explicit, order=(listed,)) == explicit


def test_no_file_at_all_names_the_places(tmp_path):
    places = (tmp_path / "a.toml", tmp_path / "b.toml")

    with pytest.raises(ConfigError, match=f"neither {places[0]} nor {places[1]}"):
        find(order=places)


def test_a_dangling_symlink_is_reported_not_passed_over(write, tmp_path):
    link, other = tmp_path / "a.toml", write("", "b.toml")
    link.symlink_to(tmp_path / "gone")

    with pytest.raises(ConfigError, match=r"a.toml: configuration file is a symlink to nothing"):
        find(order=(link, other))


def test_a_missing_explicit_file_is_an_error(tmp_path):
    with pytest.raises(ConfigError, match=r"x.toml: configuration file does not exist"):
        find(tmp_path / "x.toml")


def test_a_loop_of_symlinks_is_an_error(tmp_path):
    link = tmp_path / "a.toml"
    link.symlink_to(link)

    with pytest.raises(ConfigError, match="can't be reached"):
        find(link)


def test_a_relative_path_is_refused():
    with pytest.raises(ConfigError, match="must be absolute"):
        find(Path("configuration.toml"))
