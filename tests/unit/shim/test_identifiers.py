"""Which ids are taken: containerd's rule, checked against its own regular expression."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shim.identifiers import MAX_LENGTH, problem_with

_CONTAINERD_RULE = re.compile(r"[A-Za-z0-9]+(?:[._-](?:[A-Za-z0-9]+))*")


@given(st.text(alphabet="aZ09._-/ \0é\n", max_size=80))
def test_agrees_with_containerds_regular_expression(text: str) -> None:
    valid = _CONTAINERD_RULE.fullmatch(text) is not None and len(text) <= MAX_LENGTH

    assert (problem_with(text) is None) == valid


@pytest.mark.parametrize("text", ["", ".", "..", "a/b", "../x", "-a", "a-", "a..b", "a b", "x" * 77, "a\n"])
def test_names_the_problem_in_one_line(text: str) -> None:
    problem = problem_with(text)

    assert problem is not None
    assert "\n" not in problem


def test_takes_the_longest_id() -> None:
    assert problem_with("x" * MAX_LENGTH) is None
