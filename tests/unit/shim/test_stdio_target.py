"""What containerd names as a stream's place."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox.errors import InvalidArgumentError
from shim.stdio.target import Scheme, Target, parse


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("", Target(Scheme.NONE)),
        ("/run/x/out", Target(Scheme.FIFO, "/run/x/out")),
        ("/run/a%20b?c", Target(Scheme.FIFO, "/run/a%20b?c")),
        ("fifo:///run/x/out", Target(Scheme.FIFO, "/run/x/out")),
        ("file:///var/log/x%20y.log", Target(Scheme.FILE, "/var/log/x y.log")),
        ("binary:///bin/log", Target(Scheme.BINARY, "/bin/log")),
        ("binary:///bin/log?id=1&x=a%2Fb&id=2", Target(Scheme.BINARY, "/bin/log", ("id", "1", "x", "a/b"))),
        ("binary:///bin/log?flag", Target(Scheme.BINARY, "/bin/log", ("flag", ""))),
        ("binary-v2:///bin/log", Target(Scheme.BINARY_V2, "/bin/log")),
    ],
)
def test_known_places_are_understood(text: str, target: Target) -> None:
    assert parse(text) == target


@pytest.mark.parametrize(
    "text",
    [
        "relative/out",
        "ttrpc+unix:///run/x?streaming_id=1",
        "http://host/x",
        "file://host/x",
        "file:relative",
        "none:",
        "binary://",
        "/run/\0x",
        "://",
        "file://[",
    ],
)
def test_unknown_places_are_named(text: str) -> None:
    with pytest.raises(InvalidArgumentError, match="stream"):
        parse(text)


@given(st.text(max_size=60))
def test_any_text_is_a_place_or_an_error(text: str) -> None:
    try:
        target = parse(text)
    except InvalidArgumentError:
        return
    assert target.scheme is Scheme.NONE or target.path.startswith("/")
