"""The plots, by matplotlib, which is loaded when they are drawn, and which only they need."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench import plot_data
from bench.outcome import Outcome

PHASES, LATENCIES, MEMORY = "start-phases.png", "latency-distributions.png", "memory-per-pod.png"

#: The files, in the order in which a page shows them.
NAMES = (PHASES, LATENCIES, MEMORY)

_DPI = 110


class NoPlotsError(Exception):
    """There is no matplotlib; one line."""


def draw_all(outcomes: Sequence[Outcome], directory: Path) -> None:
    """Draw what the results have the data for; raises `NoPlotsError`."""
    pyplot = _load()
    if stacks := plot_data.stacks(outcomes):
        _save(pyplot, _draw_phases(pyplot, stacks), directory / PHASES)
    if distributions := plot_data.distributions(outcomes):
        _save(pyplot, _draw_latencies(pyplot, distributions), directory / LATENCIES)
    if parts := plot_data.memory(outcomes):
        _save(pyplot, _draw_memory(pyplot, parts), directory / MEMORY)


def _load() -> Any:
    try:
        import matplotlib
    except ImportError as error:
        raise NoPlotsError(f"matplotlib is missing ({error}): sh tools/venv.sh plots installs it") from error
    matplotlib.use("Agg")
    from matplotlib import pyplot

    return pyplot


def _save(pyplot: Any, figure: Any, path: Path) -> None:
    # Without the version of matplotlib in it, the same results give the same file.
    figure.savefig(path, dpi=_DPI, metadata={"Software": None})
    pyplot.close(figure)


def _draw_phases(pyplot: Any, stacks: Sequence[plot_data.Stack]) -> Any:
    """A horizontal bar for each kind of start, and below it, thinner, what ran beside."""
    figure, axes = pyplot.subplots(figsize=(11, 1.6 + 1.2 * len(stacks)), layout="constrained")
    names = list(dict.fromkeys(name for stack in stacks for name, _ in (*stack.parts, *stack.beside)))
    colours = {name: pyplot.get_cmap("tab20")(index % 20) for index, name in enumerate(names)}
    colours[plot_data.OTHER] = "0.85"
    shown: set[str] = set()
    for row, stack in enumerate(stacks):
        left = 0.0
        for name, seconds in stack.parts:
            label = "_" if name in shown else name
            axes.barh(row, seconds, left=left, height=0.5, color=colours[name], label=label)
            left += seconds
            shown.add(name)
        axes.text(max(left, stack.total), row, f" {stack.total:.2f} s", va="center")
        for index, (name, seconds) in enumerate(stack.beside):
            label = "_" if name in shown else f"{name} (beside)"
            axes.barh(row + 0.32 + 0.1 * index, seconds, height=0.08, color=colours[name], label=label)
            shown.add(name)
    axes.set_yticks(range(len(stacks)), [stack.kind for stack in stacks])
    axes.invert_yaxis()
    axes.margins(x=0.1)
    axes.set_xlabel("seconds (medians)")
    axes.set_title("Start of a sandbox, by phase")
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), fontsize="small")
    return figure


def _draw_latencies(pyplot: Any, distributions: Sequence[plot_data.Distribution]) -> Any:
    """For each result the share of samples (up) that took at most so long (right)."""
    columns = min(3, len(distributions))
    rows = math.ceil(len(distributions) / columns)
    figure, grid = pyplot.subplots(
        rows, columns, figsize=(5 * columns, 3.4 * rows), layout="constrained", squeeze=False
    )
    for axes, one in zip(grid.flat, distributions, strict=False):
        for subject, samples in one.subjects.items():
            axes.step(samples, plot_data.shares(len(samples)), where="post", label=subject)
        if plot_data.is_wide([sample for samples in one.subjects.values() for sample in samples]):
            axes.set_xscale("log")
        axes.set(title=one.title, xlabel=one.unit, ylim=(0, 1.02))
        axes.title.set_fontsize("medium")
        axes.grid(alpha=0.3)
        axes.legend(fontsize="x-small", loc="lower right")
    for axes in list(grid.flat)[len(distributions) :]:
        axes.axis("off")
    figure.supylabel("share of the samples")
    return figure


def _draw_memory(pyplot: Any, parts: dict[str, list[tuple[int, float]]]) -> Any:
    figure, axes = pyplot.subplots(figsize=(8, 5), layout="constrained")
    for part, points in parts.items():
        axes.plot([pods for pods, _ in points], [size for _, size in points], marker="o", label=part)
    axes.set(xlabel="pods", ylabel="MB for each pod (PSS)", title="Memory for each pod, by the number of pods")
    if plot_data.is_wide([size for points in parts.values() for _, size in points]):
        axes.set_yscale("log")
    else:
        axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    return figure
