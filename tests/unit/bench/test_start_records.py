"""The record of a start, as the daemon keeps it."""

from __future__ import annotations

import json

import pytest

from bench import start_records
from bench.start_records import Started, median_phases, started


@pytest.fixture
def journals(tmp_path, monkeypatch):
    monkeypatch.setattr(start_records, "ROOT", tmp_path)
    return tmp_path


def test_it_is_read_from_the_journal_of_the_sandbox(journals):
    record = {"start": {"kind": "cold", "at": 1.0, "total": 2.5, "durations": {"vm": 0.5}}}
    for name in ("pod-0123abcd", "pod-2-0123abcd"):
        (journals / name).mkdir()
    (journals / "pod-0123abcd" / "state.json").write_text(json.dumps({"started": record}))

    assert started("pod") == Started("cold", 2.5, {"vm": 0.5})


def test_a_sandbox_that_is_not_there_is_an_error(journals):
    with pytest.raises(LookupError, match="0 run directories of sandbox pod"):
        started("pod")


def test_medians_are_over_the_starts_that_have_the_phase():
    starts = [Started("cold", 1.0, {"vm": 0.1}), Started("cold", 3.0, {"vm": 0.3, "network": 0.2})]

    assert median_phases(starts) == pytest.approx({"vm": 0.2, "network": 0.2, "total": 2.0})
    assert median_phases([]) == {}
