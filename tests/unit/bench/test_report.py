"""Results as files and as a page."""

from __future__ import annotations

import json

import pytest

from bench.outcome import Bar, Outcome
from bench.report import Record, bars_table, load, page, save

MACHINE = {"date": "2026-01-02 03:04 UTC", "CPU": "fast", "load before": "0.10"}


@pytest.fixture
def outcome():
    return Outcome(
        "start",
        "Start",
        "ms",
        {"ours": [3.0, 1.0, 2.0], "peer": [1.0]},
        [Bar("above", 5.0, 4.0, "ms", "the peer: 1 ms", "a floor")],
        ["a fact"],
        {"cold": {"vm": 1.5, "total": 2.0}},
        {"daemon": [(1, 25.0), (50, 4.5)]},
    )


def test_what_is_saved_is_loaded_again(outcome, tmp_path):
    save(outcome, MACHINE, tmp_path / "out")

    assert load(tmp_path / "out") == [Record(outcome, MACHINE)]


def test_the_samples_of_a_subject_are_on_one_line(outcome, tmp_path):
    path = save(outcome, MACHINE, tmp_path)

    assert '"samples": [ 3.0, 1.0, 2.0 ]' in path.read_text()
    assert json.loads(path.read_text())["machine"] == MACHINE


def test_results_are_in_the_order_of_the_benchmarks_and_those_of_none_are_last(tmp_path):
    for name in ("gone", "files-random", "memory", "start"):
        save(Outcome(name, name, "ms", {"x": [1.0]}), MACHINE, tmp_path)

    assert [record.outcome.name for record in load(tmp_path)] == ["start", "files-random", "memory", "gone"]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"name": "x"}'])
def test_a_file_that_is_no_result_is_named(text, tmp_path):
    (tmp_path / "odd.json").write_text(text)

    with pytest.raises(ValueError, match=r"odd\.json is no result"):
        load(tmp_path)


def test_the_page_has_the_latest_machine_all_bars_pictures_and_tables(outcome):
    older = Record(
        Outcome("exec", "Exec", "ms", {"x": [1.0]}), {**MACHINE, "date": "2025-01-01 00:00 UTC", "CPU": "slow"}
    )

    text = page([Record(outcome, MACHINE), older], ["start-phases.png"])

    assert "- CPU: fast" in text
    assert "- CPU: slow" not in text
    assert "![start phases](start-phases.png)" in text
    assert text.index("## Bars") < text.index("### Start") < text.index("### Exec")
    assert "*2025-01-01 00:00 UTC, load before: 0.10*" in text


def test_a_page_of_nothing_says_so():
    assert "None has run" in page([])


def test_the_table_of_bars_has_figure_limit_verdict_and_what_it_is_beside():
    rows = bars_table(
        [("a", Bar("above", 5.0, 4.0, "ms", "the peer: 1 ms", "a floor")), ("b", Bar("times", 1, 1.5, ""))]
    )

    assert rows.splitlines()[-2:] == [
        "| `a` | above | 5.00 ms | 4 ms | **no** | the peer: 1 ms; a floor |",
        "| `b` | times | 1.00 | 1.5 | yes |  |",
    ]
