"""Fixtures of the integration tests. A conftest takes them over by name:

    from tests.harness.fixtures import bed, bed_keeper, cri, ctr, nothing_left

With `nothing_left` there, every test of that directory is checked for what it left on the machine.

`BED_CONTAINERD=/directory` runs them under another containerd, 1.6 to 2.x (`containerd_version` has more).
"""

from __future__ import annotations

import os
import warnings
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack

import pytest

from tests.harness import inventory
from tests.harness.bed import Bed, missing_here, open_bed
from tests.harness.cri import Cri
from tests.harness.ctr import Ctr
from tests.harness.leaks import LeakError, report
from tests.harness.runtimes import RUNTIMES

#: Which runtime the tests run under; `runc` shows whether a test asks for what any runtime gives.
RUNTIME_VARIABLE = "BED_RUNTIME"

#: Name of the tests' bed, for a second run beside another one.
NAME_VARIABLE = "BED_NAME"

_PLUGIN = "bed-keeper"


class BedKeeper:
    """Opens a bed when one is wanted, keeps it from test to test, and drops it when a test has spoiled it.

    There is one for the whole run, however many conftests take over the fixtures below: it is a plugin of the run.
    """

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._bed: Bed | None = None
        # Since containerd 2.2 ctr warns of hosts with cgroup v1, in the middle of what a container writes.
        os.environ.setdefault("CONTAINERD_SUPPRESS_DEPRECATION_WARNINGS", "1")

    def bed(self) -> Bed:
        """The bed, with its containerd running."""
        if self._bed is None:
            runtime = RUNTIMES[os.environ.get(RUNTIME_VARIABLE, "kata")]
            covered = bool(os.environ.get("COVERAGE_FILE"))
            name = os.environ.get(NAME_VARIABLE, "test")
            self._bed = self._stack.enter_context(open_bed(name, runtime, covered=covered))
        if not self._bed.containerd.pid:
            self._bed.containerd.start()
        return self._bed

    def drop(self) -> None:
        """End the bed with everything it ran; the next `bed` makes a new one."""
        self._bed = None
        self._stack.close()

    def pytest_sessionfinish(self) -> None:
        """The run is over."""
        self.drop()


@pytest.fixture(scope="session")
def bed_keeper(pytestconfig: pytest.Config) -> BedKeeper:
    """Owner of the run's bed."""
    keeper: BedKeeper | None = pytestconfig.pluginmanager.get_plugin(_PLUGIN)
    if keeper is None:
        if missing := missing_here():
            pytest.fail(missing, pytrace=False)
        keeper = BedKeeper()
        pytestconfig.pluginmanager.register(keeper, _PLUGIN)
    return keeper


@pytest.fixture
def bed(bed_keeper: BedKeeper) -> Bed:
    """A bed with a running containerd."""
    return bed_keeper.bed()


@pytest.fixture
def nothing_left(bed_keeper: BedKeeper) -> Iterator[None]:
    """Fail the test if it leaves anything: processes, mounts, network, cgroups, sockets, files.

    The bed of a test that does is dropped, so that the next test starts on a clean one.
    """
    bed = bed_keeper.bed()
    check = bed.leak_check()
    yield
    left = check.wait_clean()
    unjudged = inventory.SOURCES.keys() - check.judged
    if unjudged:
        warnings.warn(
            f"another bed is in use, so these were not looked at: {', '.join(sorted(unjudged))}", stacklevel=1
        )
    if left:
        bed_keeper.drop()
        pytest.fail(str(LeakError(f"left behind by this test:\n{report(left)}")), pytrace=False)


@pytest.fixture
def ctr(bed: Bed, nothing_left: None) -> Ctr:
    """ctr in the default namespace; what the test runs must be gone at its end."""
    return bed.ctr()


@pytest.fixture
async def cri(bed: Bed, nothing_left: None) -> AsyncIterator[Cri]:
    """A CRI client; the pods that the test made through it are removed at its end."""
    async with Cri.connect(bed.socket, bed.pod_logs, bed.runtime) as client:
        await client.wait_for_image()
        yield client
        await client.remove_all()
