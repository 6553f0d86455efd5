"""Fixtures of the cache's tests: a server of their own, and containers whose VMs come from it."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.harness.fixtures import BedKeeper, bed, bed_keeper
from tests.harness.leaks import report
from tests.integration.cache.cached import Cached

__all__ = ["bed", "bed_keeper"]


@pytest.fixture(scope="module")
def cached(bed_keeper: BedKeeper, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cached]:
    """A running server with two VMs; nothing may be left when it has been stopped."""
    bed = bed_keeper.bed()
    check = bed.leak_check()
    one = Cached.make(bed, tmp_path_factory.mktemp("cache"), f"kata-cache-test-{os.getpid()}.sock", number=2)
    one.ctl("start").check()
    one.wait_full()
    yield one
    if one.is_running:
        one.ctl("stop")
    left = check.wait_clean()
    if left:
        bed_keeper.drop()
        pytest.fail(f"left behind by these tests:\n{report(left)}", pytrace=False)
