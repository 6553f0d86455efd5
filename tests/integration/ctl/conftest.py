"""Fixtures of the tests of kata-ctl: a containerd of their own."""

from __future__ import annotations

from tests.harness.fixtures import bed, bed_keeper, ctr, nothing_left

__all__ = ["bed", "bed_keeper", "ctr", "nothing_left"]
