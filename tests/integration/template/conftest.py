"""Fixtures of the template tests: containers whose VMs may be clones, and a store of templates of their own."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.ctr import Ctr
from tests.harness.fixtures import BedKeeper, bed, bed_keeper
from tests.harness.leaks import report
from tests.integration.template.clones import Clones

__all__ = ["bed", "bed_keeper"]


@pytest.fixture(scope="module")
def store(bed_keeper: BedKeeper) -> Iterator[Path]:
    """Where the module's templates are: on tmpfs. Besides it nothing may be left in the end."""
    check = bed_keeper.bed().leak_check()
    path = Path(f"/dev/shm/kata-template-test-{os.getpid()}")
    path.mkdir(mode=0o700)
    yield path
    shutil.rmtree(path)
    left = check.wait_clean()
    if left:
        bed_keeper.drop()
        pytest.fail(f"left behind by these tests:\n{report(left)}", pytrace=False)


@pytest.fixture(scope="module")
def clones(bed_keeper: BedKeeper, store: Path, tmp_path_factory: pytest.TempPathFactory) -> Clones:
    """Containers under a configuration with `enable_template`."""
    bed = bed_keeper.bed()
    keys = f'enable_template = true\ntemplate_path = "{store}"\n'
    text = bed.configuration.read_text().replace("[factory]\n", f"[factory]\n{keys}", 1)
    configuration = tmp_path_factory.mktemp("template") / "configuration.toml"
    configuration.write_text(text)
    return Clones(Ctr(bed.socket, bed.runtime, configuration=configuration), bed, store, configuration)
