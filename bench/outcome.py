"""What a benchmark gives: series, comparisons, bars; and how it is written down."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from bench.stats import Summary, summarize


@dataclass(frozen=True)
class Bar:
    """A figure that must not be above its limit."""

    what: str
    value: float
    limit: float
    unit: str

    @property
    def met(self) -> bool:
        """Whether it is not."""
        return self.value <= self.limit

    def __str__(self) -> str:
        verdict = "met" if self.met else "NOT MET"
        unit = f" {self.unit}" if self.unit else ""
        return f"{self.what}: {number(self.value)}{unit} (bar: at most {self.limit:g}{unit}, {verdict})"


@dataclass(frozen=True)
class Outcome:
    """One benchmark's result. `series` are samples by subject, in `unit`; `facts` are further figures in words."""

    name: str
    title: str
    unit: str
    series: Mapping[str, Sequence[float]]
    bars: Sequence[Bar] = ()
    facts: Sequence[str] = field(default_factory=tuple)

    def to_json(self) -> dict[str, Any]:
        """Everything, samples included, as values that JSON has."""
        subjects = {
            subject: {**asdict(summarize(samples)), "samples": list(samples)}
            for subject, samples in self.series.items()
        }
        bars = [{**asdict(bar), "met": bar.met} for bar in self.bars]
        return {
            "name": self.name,
            "title": self.title,
            "unit": self.unit,
            "series": subjects,
            "bars": bars,
            "facts": list(self.facts),
        }

    def to_markdown(self) -> str:
        """A heading, a table of the subjects, and a list of bars and facts."""
        lines = [
            f"### {self.title}",
            "",
            f"| {self.unit} | median | p90 | p99 | lowest | highest | samples |",
            "|---|---:|---:|---:|---:|---:|---:|",
        ]
        for subject, samples in self.series.items():
            lines.append(f"| {subject} | {' | '.join(_figures(summarize(samples)))} | {len(samples)} |")
        lines += ["", *(f"- {text}" for text in (*map(str, self.bars), *self.facts)), ""]
        return "\n".join(lines)


def _figures(one: Summary) -> list[str]:
    """The columns of a table, without percentiles for which there are too few samples."""
    return [
        number(one.median),
        number(one.p90) if one.count >= 10 else "",
        number(one.p99) if one.count >= 100 else "",
        number(one.lowest),
        number(one.highest),
    ]


def number(value: float) -> str:
    """Three significant digits or more, without an exponent."""
    if value and abs(value) < 1:
        return f"{value:.3g}"
    return f"{value:.2f}" if abs(value) < 100 else f"{value:.0f}"
