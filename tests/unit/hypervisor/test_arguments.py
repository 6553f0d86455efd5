"""QEMU's option syntax: what goes in comes out the same, or is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hypervisor.arguments import absolute, escaped, option, plain
from hypervisor.errors import HypervisorError


def parse(text: str) -> list[str]:
    """Split as QEMU's get_opt_value does: at single commas, with pairs of them for one."""
    parts, position = [""], 0
    while position < len(text):
        if text[position : position + 2] == ",,":
            parts[-1] += ","
            position += 2
        elif text[position] == ",":
            parts.append("")
            position += 1
        else:
            parts[-1] += text[position]
            position += 1
    return parts


def test_an_option_is_its_flag_and_a_list_in_order():
    assert option("-device", "virtio-rng-pci", {"rng": "rng0", "max-bytes": 10}) == [
        "-device",
        "virtio-rng-pci,rng=rng0,max-bytes=10",
    ]


def test_booleans_are_on_and_off_and_none_is_left_out():
    assert option("-x", None, {"a": True, "b": False, "c": None}) == ["-x", "a=on,b=off"]


@pytest.mark.parametrize(
    ("value", "expected"), [(Path("/a,b"), "/a,,b"), ("x,", "x,,"), (",", ",,"), ("a=b c'\"\\", "a=b c'\"\\")]
)
def test_commas_are_doubled_and_nothing_else_is_touched(value: str | Path, expected: str):
    assert escaped(value) == expected


@given(
    st.lists(st.text(st.characters(min_codepoint=0x20, exclude_characters="\x7f"), min_size=1), min_size=1, max_size=4)
)
def test_any_printable_values_survive_qemu_s_parser(values: list[str]):
    (_, text) = option("-x", None, {f"k{index}": value for index, value in enumerate(values)})
    assert parse(text) == [f"k{index}={value}" for index, value in enumerate(values)]


@pytest.mark.parametrize("text", ["a\nb", "a\0b", "a\x1bb", "a\x7f", "\t"])
def test_control_characters_are_refused(text: str):
    with pytest.raises(HypervisorError, match="control character in QEMU path") as caught:
        plain(text, "path")
    assert str(caught.value).isprintable()


def test_an_empty_value_is_refused():
    with pytest.raises(HypervisorError, match="empty QEMU serial"):
        escaped("", "serial")


@pytest.mark.parametrize("path", ["relative/kernel", "-append", ""])
def test_a_path_that_could_be_an_option_is_refused(path: str):
    with pytest.raises(HypervisorError, match="not an absolute path"):
        absolute(Path(path), "kernel")
