"""The line scan: right where it answers, silent where it can't know."""

from __future__ import annotations

import tomllib

from hypothesis import given
from hypothesis import strategies as st

from config.toml_lines import find_lines


def test_keys_and_tables_are_found_with_their_full_path():
    lines = find_lines("# a = 1\ntop = 1\n\n[ hypervisor . qemu ] # c\n  path = 'x'\n\"kernel\" = 'y'\nx.y = 1\n")

    assert lines == {
        ("top",): 2,
        ("hypervisor", "qemu"): 4,
        ("hypervisor", "qemu", "path"): 5,
        ("hypervisor", "qemu", "kernel"): 6,
        ("hypervisor", "qemu", "x", "y"): 7,
    }


def test_what_looks_like_a_key_in_a_string_is_none():
    text = 'a = """\nb = 1\n[c]\n"""\nd = 2\n'

    assert find_lines(text) == {("a",): 1, ("d",): 5}


def test_a_string_ends_with_the_mark_it_began_with_only():
    text = 'a = """\n\'\'\'\nb = 1\n"""\nc = 2\n'

    assert find_lines(text) == {("a",): 1, ("c",): 5}


def test_items_of_an_array_over_several_lines_are_no_keys():
    assert find_lines('a = [\n  "b = 1",\n  "c",\n]\nd = 1\n') == {("a",): 1, ("d",): 5}


def test_an_array_of_tables_has_the_line_of_its_first_header():
    assert find_lines("[[a]]\nb = 1\n[[a]]\nb = 2\n") == {("a",): 1, ("a", "b"): 2}


_name = st.from_regex(r"[a-z_]{1,8}", fullmatch=True)


@given(st.dictionaries(_name, st.dictionaries(_name, st.integers(0, 9), max_size=5), max_size=5))
def test_every_plain_key_of_a_document_is_found_on_its_line(document):
    text = "".join(
        f"[{table}]\n" + "".join(f"{key} = {value}\n" for key, value in keys.items())
        for table, keys in document.items()
    )

    lines = find_lines(text)

    assert tomllib.loads(text) == document
    rows = text.split("\n")
    for table, keys in document.items():
        assert rows[lines[(table,)] - 1] == f"[{table}]"
        for key, value in keys.items():
            assert rows[lines[table, key] - 1] == f"{key} = {value}"


@given(st.text(max_size=300))
def test_any_text_is_scanned_without_an_error(text):
    assert all(0 < number <= text.count("\n") + 1 for number in find_lines(text).values())
