"""Prometheus' text, from /proc."""

from __future__ import annotations

import os

from guest.agent import metrics


def test_loads_and_tasks_are_read():
    text = "0.50 0.25 0.10 2/345 999\n"

    assert [value for _, value in metrics.load(text)] == [0.5, 0.25, 0.1]
    assert [value for _, value in metrics.tasks(text)] == [2, 345]


def test_cpu_times_are_by_cpu_and_item():
    tick = 1000 / os.sysconf("SC_CLK_TCK")
    samples = metrics.cpu_time("cpu  1 2 3 4\ncpu0 5 6 7 8\nintr 9\n")

    assert ({"cpu": "total", "item": "user"}, 1 * tick) in samples
    assert ({"cpu": "0", "item": "idle"}, 8 * tick) in samples
    assert len(samples) == 8


def test_memory_is_in_bytes():
    assert metrics.meminfo("MemTotal:  2 kB\nHugePages_Total: 3\n") == [
        ({"item": "mem_total"}, 2048.0),
        ({"item": "hugepages_total"}, 3.0),
    ]


def test_empty_files_give_no_samples():
    for parse in (metrics.load, metrics.tasks, metrics.cpu_time, metrics.meminfo, metrics.netdev, metrics.key_values):
        assert parse("") == []


def test_the_text_is_prometheus():
    text = metrics.render(scrapes=1)

    assert "# TYPE kata_guest_load gauge\n" in text
    assert 'kata_guest_meminfo{item="mem_total"} ' in text
    assert all(line.startswith("#") or len(line.rsplit(" ", 1)) == 2 for line in text.splitlines())


def test_labels_are_escaped():
    assert metrics._labels({"a": 'x"y\\z\n'}) == '{a="x\\"y\\\\z\\n"}'
