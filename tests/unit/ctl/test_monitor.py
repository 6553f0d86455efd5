"""The monitor: all pods' metrics in one text, whatever one of them does."""

from __future__ import annotations

import json

import pytest

from ctl import gathering
from ctl.gathering import LABELS, Counts, gather, labels_of, merge
from ctl.monitor import Monitor
from ctl.pods import find
from shim.management.exposition import Family, parse, render
from shim.management.http import HttpError, Request
from tests.unit.ctl.conftest import MakePod, answering

pytestmark = pytest.mark.anyio

_METRICS = '# TYPE kata_shim_threads gauge\nkata_shim_threads{sandbox_id="forged",a="b"} 3\n'


async def scrape(**query: str) -> dict[str, Family]:
    response = await Monitor().handle(Request("GET", "/metrics", query))
    return {family.name: family for family in parse(response.body.decode())}


async def test_samples_carry_the_labels_of_their_pod(make_pod: MakePod) -> None:
    first, second = make_pod("c1"), make_pod("c2", started=None)

    async with answering(first, _METRICS), answering(second, _METRICS):
        family = (await scrape())["kata_shim_threads"]

    assert {sample.labels for sample in family.samples} == {
        (*zip(LABELS, ("c1", "u-1", "web-1", "shop"), strict=True), ("a", "b")),
        (*zip(LABELS, ("c2", "", "", ""), strict=True), ("a", "b")),
    }


async def test_a_pod_that_hangs_or_is_gone_costs_nobody_else_anything(
    make_pod: MakePod, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gathering, "POD_TIMEOUT", 0.3)
    good, hung, _ = make_pod("good"), make_pod("hung"), make_pod("gone")

    async with answering(good, _METRICS), answering(hung, None):
        told = await scrape()

    assert [dict(sample.labels)["sandbox_id"] for sample in told["kata_shim_threads"].samples] == ["good"]
    assert told["kata_monitor_running_shim_count"].samples[0].value == "3"
    assert told["kata_monitor_scrape_failed_count"].samples[0].value == "2"


async def test_text_that_is_no_metrics_breaks_nothing(make_pod: MakePod) -> None:
    strange = make_pod("strange")

    async with answering(strange, "\x1b[2J\n{}\nkata_shim_threads nan\n\x00"):
        told = await scrape()

    assert all(name.startswith("kata_monitor_") for name in told)


async def test_one_pod_alone(make_pod: MakePod) -> None:
    pod = make_pod("c1")

    async with answering(pod, _METRICS):
        told = await scrape(sandbox="c1")

    assert list(told) == ["kata_shim_threads"]


async def test_the_sandboxes_and_their_agents(make_pod: MakePod) -> None:
    pod = make_pod("c1")
    make_pod("dead", processes={})

    async with answering(pod, "vsock://3:1024"):
        sandboxes = await Monitor().handle(Request("GET", "/sandboxes"))
        url = await Monitor().handle(Request("GET", "/agent-url", {"sandbox": "c1"}))

    assert json.loads(sandboxes.body) == ["c1"]
    assert url.body == b"vsock://3:1024"


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (Request("POST", "/metrics"), 405),
        (Request("GET", "/"), 404),
        (Request("GET", "/metrics", {"sandbox": "nope"}), 404),
        (Request("GET", "/agent-url"), 404),
        (Request("GET", "/agent-url", {"sandbox": "silent"}), 503),
    ],
)
async def test_what_can_not_be_answered_is_refused(make_pod: MakePod, request_: Request, status: int) -> None:
    make_pod("silent")

    with pytest.raises(HttpError) as caught:
        await Monitor().handle(request_)

    assert caught.value.status == status


def test_families_that_pods_disagree_about_keep_the_first_kind(make_pod: MakePod) -> None:
    merged: dict[str, Family] = {}
    labels = labels_of(make_pod("c1") and find("c1"))

    merge(merged, [Family("a", "gauge").add(1)], labels)
    merge(merged, [Family("a", "histogram").add(2)], labels)

    assert [sample.value for sample in merged["a"].samples] == ["1"]


def test_the_monitors_own_metrics_add_up() -> None:
    counts = Counts()
    counts.done(0.015, 0)
    counts.done(60.0, 2)

    text = render(counts.families(5))

    assert "kata_monitor_scrape_count 2" in text
    assert "kata_monitor_scrape_failed_count 2" in text
    assert 'milliseconds_bucket{le="10"} 0' in text
    assert 'milliseconds_bucket{le="20"} 1' in text
    assert 'milliseconds_bucket{le="+Inf"} 2' in text


async def test_no_pods_are_an_empty_text() -> None:
    assert await gather([]) == ""
