"""What a benchmark gives: series, comparisons, bars; and how it is written down."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from bench.stats import Summary, summarize


@dataclass(frozen=True)
class Bar:
    """A figure that must not be above its limit.

    `beside` is the figure it is measured by (a peer's, a floor's) in words; `remark` says what the limit of the limit
    is, where there is one.
    """

    what: str
    value: float
    limit: float
    unit: str
    beside: str = ""
    remark: str = ""

    @property
    def met(self) -> bool:
        """Whether it is not."""
        return self.value <= self.limit

    @property
    def measured(self) -> str:
        """The figure with its unit."""
        return f"{number(self.value)} {self.unit}".rstrip()

    @property
    def most(self) -> str:
        """The limit with its unit."""
        return f"{self.limit:.4g} {self.unit}".rstrip()

    def __str__(self) -> str:
        return f"{self.what}: {self.measured} (bar: at most {self.most}, {'met' if self.met else 'NOT MET'})"


@dataclass(frozen=True)
class Outcome:
    """One table of a benchmark. `series` are samples by subject, in `unit`; `facts` are further figures in words.

    Where it has them: `phases` are the seconds of each phase of a start, by the kind of start; `by_pods` are megabytes
    for each pod by the number of pods, by part.
    """

    name: str
    title: str
    unit: str
    series: Mapping[str, Sequence[float]]
    bars: Sequence[Bar] = ()
    facts: Sequence[str] = field(default_factory=tuple)
    phases: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    by_pods: Mapping[str, Sequence[tuple[int, float]]] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Everything, samples included, as values that JSON has."""
        subjects = {
            subject: {**asdict(summarize(samples)), "samples": [_short(sample) for sample in samples]}
            for subject, samples in self.series.items()
        }
        bars = [{**asdict(bar), "met": bar.met} for bar in self.bars]
        value = {
            "name": self.name,
            "title": self.title,
            "unit": self.unit,
            "series": subjects,
            "bars": bars,
            "facts": list(self.facts),
        }
        if self.phases:
            value["phases"] = {kind: dict(phases) for kind, phases in self.phases.items()}
        if self.by_pods:
            value["by_pods"] = {part: [list(point) for point in points] for part, points in self.by_pods.items()}
        return value

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Outcome:
        """The outcome that `to_json` wrote; raises `KeyError` or `TypeError` for anything else."""
        return cls(
            name=value["name"],
            title=value["title"],
            unit=value["unit"],
            series={subject: one["samples"] for subject, one in value["series"].items()},
            bars=[Bar(**{key: one for key, one in bar.items() if key != "met"}) for bar in value["bars"]],
            facts=value["facts"],
            phases=value.get("phases", {}),
            by_pods={
                part: [(int(pods), float(size)) for pods, size in points]
                for part, points in value.get("by_pods", {}).items()
            },
        )

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


def _short(value: float) -> float:
    """A sample with as many digits as a clock gives."""
    return float(f"{value:.6g}")


def _figures(one: Summary) -> list[str]:
    """The columns of a table, without percentiles for which there are too few samples."""
    return [
        number(one.median),
        number(one.p90) if one.count >= 10 else "",
        number(one.p99) if one.count >= 50 else "",
        number(one.lowest),
        number(one.highest),
    ]


def number(value: float) -> str:
    """Three significant digits or more, without an exponent."""
    if value and abs(value) < 1:
        return f"{value:.3g}"
    return f"{value:.2f}" if abs(value) < 100 else f"{value:.0f}"
