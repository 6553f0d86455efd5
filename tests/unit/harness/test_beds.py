"""Beds beside each other."""

from __future__ import annotations

import pytest

from tests.harness import bed


def test_a_bed_in_use_is_seen_by_the_others_and_only_then(tmp_path):
    with bed._exclusive(tmp_path / "one"):
        while_used = bed.other_beds(tmp_path / "two")
        own = bed.other_beds(tmp_path / "one")

    assert str(tmp_path / "one") in while_used
    assert str(tmp_path / "one") not in own
    assert str(tmp_path / "one") not in bed.other_beds(tmp_path / "two")


def test_a_bed_has_one_user(tmp_path):
    with (
        bed._exclusive(tmp_path / "one"),
        pytest.raises(bed.BedError, match="in use"),
        bed._exclusive(tmp_path / "one"),
    ):
        pass


def test_leftovers_go_but_what_a_person_reads_stays(tmp_path):
    (tmp_path / "state" / "deep").mkdir(parents=True)
    for name in ("c.sock", "containerd.log", "config.toml"):
        (tmp_path / name).touch()

    bed.remove_leftovers(tmp_path)

    assert {path.name for path in tmp_path.iterdir()} == {"containerd.log", "config.toml"}
