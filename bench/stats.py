"""Statistics of samples: pure functions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Summary:
    """A series in figures, in the unit of its samples."""

    count: int
    median: float
    p90: float
    p99: float
    lowest: float
    highest: float


def percentile(samples: Sequence[float], share: float) -> float:
    """The value below which `share` (0 to 1) of the samples lie, interpolated linearly between neighbours.

    Raises `ValueError` without samples, for a share out of range, or for a sample that is not a number.
    """
    if not samples or not 0 <= share <= 1:
        raise ValueError(f"no percentile {share:g} of {len(samples)} samples")
    if any(math.isnan(sample) for sample in samples):
        raise ValueError("a sample is not a number")
    ordered = sorted(samples)
    place = share * (len(ordered) - 1)
    low = math.floor(place)
    high = math.ceil(place)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def median(samples: Sequence[float]) -> float:
    """The middle of the samples; raises `ValueError` without samples."""
    return percentile(samples, 0.5)


def summarize(samples: Sequence[float]) -> Summary:
    """The figures of a series; raises `ValueError` without samples."""
    return Summary(
        count=len(samples),
        median=median(samples),
        p90=percentile(samples, 0.9),
        p99=percentile(samples, 0.99),
        lowest=min(samples),
        highest=max(samples),
    )


def ratio(samples: Sequence[float], base: Sequence[float]) -> float:
    """How many times the median of `base` the median of `samples` is; raises `ValueError` if the base is 0."""
    below = median(base)
    if below == 0:
        raise ValueError("the median to compare with is 0")
    return median(samples) / below


def difference(samples: Sequence[float], base: Sequence[float]) -> float:
    """How much the median of `samples` is above that of `base`."""
    return median(samples) - median(base)
