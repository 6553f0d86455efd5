"""containerd's log tells the phases of a start."""

from __future__ import annotations

import pytest

from tests.harness import phases

SANDBOX = (
    'time="2026-01-02T03:04:05.678Z" level=info msg="sandbox started" sandbox=abc namespace=k8s.io kind=cold '
    'total=4.812s phases="config=0.002 network=0.100 agent=4.300"'
)
CONTAINER = 'time="x" level=info msg="container created" container=c1 sandbox=abc total=0.5 phases="rootfs=0.1"'


def test_a_sandbox_start_has_its_kind_total_and_phases_in_order():
    start = phases.parse(SANDBOX)

    assert start is not None
    assert (start.message, start.id, start.kind, start.total) == ("sandbox started", "abc", "cold", 4.812)
    assert list(start.phases.items()) == [("config", 0.002), ("network", 0.1), ("agent", 4.3)]


def test_a_container_start_is_named_by_the_container():
    start = phases.parse(CONTAINER)

    assert start is not None
    assert start.id == "c1"


@pytest.mark.parametrize(
    "line",
    [
        "",
        'level=info msg="sandbox started" sandbox=abc',
        'level=info msg="another thing" phases="a=1"',
        "phases=",
        'msg="a guest wrote: sandbox started" phases="x=1"',
    ],
)
def test_other_lines_report_no_start(line):
    assert phases.parse(line) is None


def test_quoted_values_are_unescaped():
    assert phases.fields(r'msg="say \"hi\" \\" a=1 b=""') == {"msg": r'say "hi" \\'[:-1], "a": "1", "b": ""}


@pytest.mark.parametrize(("text", "expected"), [("1.5s", 1.5), ("250ms", 0.25), ("2", 2.0)])
def test_durations_are_read_in_seconds(text, expected):
    assert phases.seconds(text) == expected


def test_the_reader_returns_only_whole_lines_that_were_added(tmp_path):
    log = tmp_path / "log"
    log.write_text("before\n")
    reader = phases.LogReader(log)
    with log.open("a") as file:
        file.write(SANDBOX + "\n" + CONTAINER)

    first = reader.starts()
    with log.open("a") as file:
        file.write("\n")
    second = reader.starts()

    assert [start.id for start in first] == ["abc"]
    assert [start.id for start in second] == ["c1"]
