"""What the plots show. (That they are drawn needs matplotlib, which the tests don't.)"""

from __future__ import annotations

import pytest

from bench.outcome import Outcome
from bench.plot_data import OTHER, distributions, is_wide, memory, shares, stacks


def outcome(name="x", unit="ms", series=None, **fields):
    return Outcome(name, name, unit, series or {"s": [1.0]}, **fields)


def test_phases_that_run_beside_others_are_not_stacked_and_the_rest_is_named():
    phases = {"cold": {"spec": 0.1, "share": 0.3, "network": 0.2, "vm": 0.5, "total": 1.0}}

    (stack,) = stacks([outcome(phases=phases)])

    assert (stack.kind, stack.total) == ("cold", 1.0)
    assert stack.parts == [("spec", 0.1), ("vm", 0.5), (OTHER, pytest.approx(0.4))]
    assert stack.beside == [("share", 0.3), ("network", 0.2)]


def test_phases_that_overlap_leave_no_negative_rest():
    (stack,) = stacks([outcome(phases={"cold": {"a": 0.7, "b": 0.6, "total": 1.0}})])

    assert [name for name, _ in stack.parts] == ["a", "b"]


def test_the_slowest_kind_of_start_is_first_and_the_last_result_of_a_kind_counts():
    found = stacks(
        [
            outcome(phases={"template": {"a": 1.0, "total": 1.0}, "cold": {"a": 3.0, "total": 3.0}}),
            outcome(phases={"template": {"a": 2.0, "total": 2.0}, "cache": {}}),
        ]
    )

    assert [(stack.kind, stack.total) for stack in found] == [("cold", 3.0), ("template", 2.0)]


def test_only_times_of_which_there_are_enough_have_a_distribution():
    many = [float(number) for number in range(10, 0, -1)]

    found = distributions(
        [outcome(series={"s": many, "few": [1.0]}), outcome(unit="MB", series={"s": many}), outcome()]
    )

    assert [one.subjects for one in found] == [{"s": sorted(many)}]


def test_shares_end_with_all():
    assert shares(4) == [0.25, 0.5, 0.75, 1.0]


@pytest.mark.parametrize(("samples", "wide"), [([], False), ([0, 100], False), ([1, 20], False), ([1, 21], True)])
def test_what_differs_much_is_wide(samples, wide):
    assert is_wide(samples) is wide


def test_memory_is_by_the_number_of_pods():
    assert memory([outcome(), outcome(by_pods={"daemon": [(50, 4.5), (1, 25.0)]})]) == {
        "daemon": [(1, 25.0), (50, 4.5)]
    }
