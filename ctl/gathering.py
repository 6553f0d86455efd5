"""The metrics of all pods of the node as one text, each sample with the labels of its pod, as kata-monitor has them.

All pods are asked at the same time, and each has the same short time: one that hangs costs the others nothing.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Sequence
from typing import Final

from ctl.pods import PodEntry, find_all, text
from shim.management.client import ManagementError, ask
from shim.management.exposition import Family, Labels, Sample, number, parse, render

#: Seconds that a pod has for its metrics; Prometheus itself waits 10.
POD_TIMEOUT: Final = 5.0
#: Pods that are asked at the same time.
AT_ONCE: Final = 256
#: The labels that tell pods apart: nobody else sets them.
LABELS: Final = ("sandbox_id", "cri_uid", "cri_name", "cri_namespace")

_DURATIONS = "kata_monitor_scrape_durations_histogram_milliseconds"
_BUCKETS = (5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000)


class Counts:
    """What the monitor tells of itself."""

    def __init__(self) -> None:
        self.scrapes = 0
        self.failed = 0
        self._buckets = [0] * len(_BUCKETS)
        self._sum = 0.0

    def done(self, seconds: float, failed: int) -> None:
        """One scrape of all pods, of which so many did not answer."""
        self.scrapes += 1
        self.failed += failed
        self._sum += seconds * 1000
        for place, bound in enumerate(_BUCKETS):
            self._buckets[place] += seconds * 1000 <= bound

    def families(self, pods: int) -> list[Family]:
        """Under kata-monitor's names."""
        durations = Family(_DURATIONS, "histogram", "Duration of scrapes of all pods, in milliseconds.")
        for bound, count in zip(_BUCKETS, self._buckets, strict=True):
            durations.samples.append(Sample(f"{_DURATIONS}_bucket", str(count), (("le", str(bound)),)))
        durations.samples.append(Sample(f"{_DURATIONS}_bucket", str(self.scrapes), (("le", "+Inf"),)))
        durations.samples.append(Sample(f"{_DURATIONS}_sum", number(round(self._sum, 3))))
        durations.samples.append(Sample(f"{_DURATIONS}_count", str(self.scrapes)))
        return [
            Family("kata_monitor_running_shim_count", "gauge", "Pods on this node.").add(pods),
            Family("kata_monitor_scrape_count", "counter", "Scrapes of all pods.").add(self.scrapes),
            Family("kata_monitor_scrape_failed_count", "counter", "Pods that did not answer.").add(self.failed),
            durations,
        ]


async def gather(pods: Sequence[PodEntry], counts: Counts | None = None) -> str:
    """The text for `pods`; with `counts`, the monitor's own metrics too."""
    began = time.monotonic()
    gate = asyncio.Semaphore(AT_ONCE)
    texts = await asyncio.gather(*(_metrics(pod, gate) for pod in pods))
    merged: dict[str, Family] = {}
    for pod, one in zip(pods, texts, strict=True):
        if one is not None:
            merge(merged, parse(one), labels_of(pod))
    if counts is None:
        return render(merged.values())
    counts.done(time.monotonic() - began, texts.count(None))
    return render([*counts.families(len(pods)), *merged.values()])


async def _metrics(pod: PodEntry, gate: asyncio.Semaphore) -> str | None:
    async with gate:
        try:
            return (await ask(pod.socket, "GET", "/metrics", timeout=POD_TIMEOUT)).decode(errors="replace")
        except ManagementError:
            return None


def labels_of(pod: PodEntry) -> Labels:
    """The labels of a pod's samples."""
    names = pod.facts("pod")
    return tuple(zip(LABELS, (pod.id, *(text(names, key) for key in ("uid", "name", "namespace"))), strict=True))


def merge(merged: dict[str, Family], families: Iterable[Family], labels: Labels) -> None:
    """Add a pod's samples, each with `labels`; of families whose kind the pods disagree about, the first counts."""
    for family in families:
        whole = merged.setdefault(family.name, Family(family.name, family.kind, family.help))
        if whole.kind != family.kind:
            continue
        for sample in family.samples:
            own = tuple(label for label in sample.labels if label[0] not in LABELS)
            whole.samples.append(Sample(sample.name, sample.value, (*labels, *own)))


def node_metrics() -> str:
    """All pods once."""
    return asyncio.run(gather([pod for pod in find_all() if pod.pid]))
