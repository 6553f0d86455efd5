"""Fixtures of the hook and annotation tests: the shim without containerd, configured so that pods may choose."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness import paths
from tests.harness.bed import Bed
from tests.harness.command import run
from tests.harness.fixtures import bed, bed_keeper, nothing_left
from tests.harness.shim_binary import ShimBinary
from tests.integration.faults.conftest import rootfs
from tests.integration.faults.direct import Direct

__all__ = ["bed", "bed_keeper", "nothing_left", "rootfs"]

#: What a pod may set by annotations.
_ALLOWED = """\
[hypervisor.qemu]
enable_annotations = ["default_memory", "default_vcpus", "kernel_params", "entropy_source"]
valid_entropy_sources = ["/dev/urandom"]
"""


@pytest.fixture(scope="session")
def configuration(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The installed configuration, and a drop-in with what pods may set."""
    directory = tmp_path_factory.mktemp("hooks")
    (directory / "config.d").mkdir()
    (directory / "config.d" / "50-annotations.toml").write_text(_ALLOWED)
    return Path(shutil.copy(paths.CONFIGURATION, directory / "configuration.toml"))


@pytest.fixture
def swept_direct(bed: Bed, rootfs: Path, configuration: Path, tmp_path: Path) -> Iterator[Direct]:
    """Ends what a failed test left running: after `nothing_left` has seen it."""
    one = Direct(ShimBinary(paths.SHIM, bed.socket, "hooks"), tmp_path, rootfs, configuration)
    yield one
    one.sweep()


@pytest.fixture
def direct(swept_direct: Direct, nothing_left: None) -> Direct:
    """Drives the shim without containerd; the sandboxes that a test makes so must be gone at its end."""
    return swept_direct


@pytest.fixture
def netns(nothing_left: None) -> Iterator[Path]:
    """A network namespace for a pod, as CNI's plugins get one."""
    name = "kata-hooks"
    run("ip", "netns", "add", name).check()
    yield Path("/run/netns", name)
    run("ip", "netns", "delete", name).check()
