"""Prometheus' text format: read with suspicion, written well-formed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shim.management.exposition import Family, Sample, parse, render

_TEXT = """\
# HELP kata_guest_load Guest system load.
# TYPE kata_guest_load gauge
kata_guest_load{item="load1"} 0.5
kata_guest_load{item="a \\"quoted\\" \\\\ one"} 1e3
# TYPE rpc histogram
rpc_bucket{action="x",le="+Inf"} 2
rpc_sum{action="x"} 3.5
rpc_count{action="x"} 2
lonely 7 1700000000
"""


def test_families_with_their_samples() -> None:
    load, rpc, lonely = parse(_TEXT)

    assert (load.kind, load.help, len(load.samples)) == ("gauge", "Guest system load.", 2)
    assert load.samples[1] == Sample("kata_guest_load", "1e3", (("item", 'a "quoted" \\ one'),))
    assert [sample.name for sample in rpc.samples] == ["rpc_bucket", "rpc_sum", "rpc_count"]
    assert (lonely.kind, lonely.samples[0].value) == ("untyped", "7")


def test_what_is_written_reads_the_same() -> None:
    assert parse(render(parse(_TEXT))) == parse(_TEXT)


@pytest.mark.parametrize(
    "line",
    [
        "no_value",
        "bad value",
        "a 0x10",
        "a 1_000",
        "a nan",
        "a 1 2 3",
        "9a 1",
        "a-b 1",
        "a{b} 1",
        'a{b="c} 1',
        'a{b="c"x} 1',
        'a{b="c",b="d"} 1',
        'a{9="c"} 1',
        f'a{{b="{"c" * 257}"}} 1',
        "a{" + ",".join(f'l{number}="x"' for number in range(17)) + "} 1",
        f"{'a' * 129} 1",
        f"a {'1' * 41}",
        f'a{{b="{"c" * 9000}"}} 1',
        "\x1b[2Ja 1",
    ],
)
def test_a_malformed_line_is_left_out(line: str) -> None:
    [family] = parse(f"{line}\ngood 1\n")

    assert render([family]) == "# TYPE good untyped\ngood 1\n"


def test_text_that_is_no_line_of_its_own_is_made_harmless() -> None:
    family = Family("a", "gauge", "two\nlines\x1b").add(1, label="x\ny\x00\\")

    assert render([family]) == '# HELP a two?lines?\n# TYPE a gauge\na{label="x?y?\\\\"} 1\n'


def test_no_more_samples_than_allowed() -> None:
    text = "\n".join(f'a{{n="{number}"}} 1' for number in range(100))

    assert sum(len(family.samples) for family in parse(text, 10)) == 10


def test_no_more_declarations_than_allowed() -> None:
    text = "\n".join(f"# TYPE a{number} gauge" for number in range(100)) + "\na50 1\na5 1"

    assert [(family.name, family.kind) for family in parse(text, 10)] == [("a5", "gauge"), ("a50", "untyped")]


def test_a_kind_does_not_change_behind_the_first_sample() -> None:
    [family] = parse("# TYPE a gauge\na 1\n# TYPE a histogram\n# TYPE a nonsense\n")

    assert family.kind == "gauge"


@given(st.text(max_size=200))
def test_any_text_is_parsed_and_written_well_formed(text: str) -> None:
    written = render(parse(text))

    assert render(parse(written)) == written


@given(st.text(alphabet='a{}="\\,# \n1e.', max_size=300))
def test_text_that_is_nearly_right_too(text: str) -> None:
    written = render(parse(text))

    assert render(parse(written)) == written
