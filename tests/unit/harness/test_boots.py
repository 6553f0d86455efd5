"""Contract: of the journals of pods it is told how many booted at once, and whether in order."""

from __future__ import annotations

import pytest

from tests.harness.boots import Boot, most_at_once, overtaken


def test_the_moments_of_a_boot_are_those_of_its_journal():
    durations = {"spec": 0.5, "config": 0.5, "queue": 2.0, "vm": 1.0, "agent": 3.0}

    boot = Boot.of({"started": {"start": {"at": 107.0, "total": 7.0, "durations": durations}}})

    assert (boot.arrival, boot.turn, boot.ready) == (101.0, 103.0, 107.0)


def test_a_pod_that_is_not_up_has_none():
    with pytest.raises(KeyError):
        Boot.of({"processes": {}})


def test_boots_that_touch_are_not_at_once():
    assert most_at_once([Boot(0, 0, 2), Boot(0, 2, 4), Boot(0, 1, 3)], 0) == 2
    assert most_at_once([Boot(0, 0, 2.1), Boot(0, 2, 4)], 0) == 2
    assert most_at_once([Boot(0, 0, 2.1), Boot(0, 2, 4)], 0.2) == 1


def test_who_comes_later_and_boots_before_has_overtaken():
    assert overtaken([Boot(0, 5, 6), Boot(1, 4, 5), Boot(2, 7, 8)], 0.5) == 1
    assert overtaken([Boot(0, 5, 6), Boot(0.4, 4, 5)], 0.5) == 0
