"""How a benchmark is written down."""

from __future__ import annotations

import json

import pytest

from bench import machine
from bench.outcome import Bar, Outcome, number


@pytest.fixture
def outcome():
    return Outcome(
        "start", "Start", "ms", {"ours": [3.0, 1.0, 2.0], "peer": [1.0]}, [Bar("above", 5.0, 4.0, "ms")], ["a fact"]
    )


@pytest.mark.parametrize(
    ("value", "limit", "met"), [(1, 2, True), (2, 2, True), (2.1, 2, False), (float("nan"), 2, False)]
)
def test_a_bar_is_met_up_to_its_limit(value, limit, met):
    assert Bar("x", value, limit, "").met is met


def test_json_has_samples_figures_and_the_verdict(outcome):
    value = json.loads(json.dumps(outcome.to_json()))

    assert value["series"]["ours"]["median"] == 2
    assert value["series"]["ours"]["samples"] == [3, 1, 2]
    assert value["bars"] == [
        {"what": "above", "value": 5, "limit": 4, "unit": "ms", "beside": "", "remark": "", "met": False}
    ]


def test_the_table_has_a_row_for_each_subject_and_says_what_is_not_met(outcome):
    text = outcome.to_markdown()

    assert "| ours | 2.00 |  |  | 1.00 | 3.00 | 3 |" in text
    assert "- above: 5.00 ms (bar: at most 4 ms, NOT MET)" in text
    assert "- a fact" in text


def test_a_percentile_is_shown_where_there_are_samples_enough():
    rows = [Outcome("x", "X", "ms", {"s": [float(one) for one in range(count)]}).to_markdown() for count in (9, 10, 50)]

    shown = [sum(bool(cell.strip()) for cell in row.splitlines()[4].split("|")) for row in rows]

    assert shown == [5, 6, 7]


@pytest.mark.parametrize(("value", "text"), [(0.01234, "0.0123"), (0, "0.00"), (12.345, "12.35"), (1234.5, "1234")])
def test_numbers_keep_three_digits(value, text):
    assert number(value) == text


@pytest.mark.parametrize(
    ("flags", "has_kvm", "expected"),
    [("fpu vmx", True, "KVM"), ("fpu svm", True, "KVM"), ("fpu", True, "none"), ("fpu vmx", False, "none")],
)
def test_kvm_counts_only_with_the_cpus_flag(flags, has_kvm, expected):
    assert machine.virtualisation(f"flags\t\t: {flags}\n", has_kvm).startswith(expected)


def test_the_machine_is_described():
    described = machine.describe()

    assert described["CPU"].endswith("logical")
    assert described["memory"].endswith(" MiB")
