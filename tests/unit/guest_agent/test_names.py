"""Ids and paths from the host are taken only if they are plainly right."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guest.agent import names
from guest.agent.errors import InvalidArgumentError


@pytest.mark.parametrize("value", ["a", "A9", "pod_1.x-y", "a" * 128])
def test_a_well_formed_container_id_is_taken(value):
    assert names.container_id(value) == value


@pytest.mark.parametrize("value", ["", ".", "..", "-a", "a/b", "a\n", "a b", "é", "a" * 129, "a\0"])
def test_a_malformed_container_id_is_refused(value):
    with pytest.raises(InvalidArgumentError):
        names.container_id(value)


def test_an_empty_exec_id_means_the_init_and_is_legal():
    assert names.exec_id("") == ""


def test_a_path_is_normalised():
    assert names.absolute_path("//run//kata/./x/", "path") == "/run/kata/x"


@pytest.mark.parametrize("value", ["", "run", "/run/../etc", "/run/..", "/a\0b", "/" + "a" * 5000])
def test_a_path_that_is_relative_climbs_or_is_too_long_is_refused(value):
    with pytest.raises(InvalidArgumentError):
        names.absolute_path(value, "path")


@pytest.mark.parametrize("value", ["/run/kata", "/run/kata/", "/run/katana/x", "/etc", "/run/kata/../x"])
def test_a_path_that_is_not_strictly_below_its_root_is_refused(value):
    with pytest.raises(InvalidArgumentError):
        names.path_beneath(value, "/run/kata", "path")


@given(st.text(max_size=60))
def test_whatever_passes_lies_below_the_root(value):
    try:
        path = names.path_beneath("/root/" + value, "/root", "path")
    except InvalidArgumentError:
        return
    assert path.startswith("/root/")
    assert ".." not in path.split("/")


@pytest.mark.parametrize("value", ["-r", "a/b", "../x", "a b", ""])
def test_a_module_name_is_never_a_path_or_an_option(value):
    with pytest.raises(InvalidArgumentError):
        names.module_name(value)
