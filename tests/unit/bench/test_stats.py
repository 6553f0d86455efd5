"""Statistics of the benchmarks."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench import stats

SAMPLES = st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=50)


def test_percentiles_interpolate_between_neighbours():
    assert stats.percentile([4, 1, 3, 2], 0.5) == 2.5
    assert stats.percentile([10, 20], 0.9) == pytest.approx(19)
    assert stats.percentile([7], 0.99) == 7


@given(SAMPLES, st.floats(0, 1))
def test_a_percentile_is_within_the_samples(samples, share):
    slack = 1e-6 * max(map(abs, samples))
    assert min(samples) - slack <= stats.percentile(samples, share) <= max(samples) + slack


@given(SAMPLES)
def test_percentiles_do_not_depend_on_the_order(samples):
    assert stats.summarize(samples) == stats.summarize(samples[::-1])


@pytest.mark.parametrize(("samples", "share"), [([], 0.5), ([1.0], 1.1), ([1.0], -0.1), ([1.0, math.nan], 0.5)])
def test_what_has_no_percentile_is_an_error(samples, share):
    with pytest.raises(ValueError):
        stats.percentile(samples, share)


def test_a_summary_has_all_figures():
    summary = stats.summarize(list(range(101)))

    assert (summary.count, summary.median, summary.p90, summary.p99) == (101, 50, 90, 99)
    assert (summary.lowest, summary.highest) == (0, 100)


def test_ratio_and_difference_compare_medians():
    assert stats.ratio([4, 6, 100], [2, 3, 4]) == 2
    assert stats.difference([4, 6, 100], [2, 3, 4]) == 3


def test_a_ratio_to_nothing_is_an_error():
    with pytest.raises(ValueError, match="is 0"):
        stats.ratio([1], [0])
