"""Fixtures of the fault tests: the bed, and what is needed to break a sandbox or to build a broken one."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sandbox.rundir import read_journal, run_dir_for
from tests.harness import images, paths
from tests.harness.bed import Bed
from tests.harness.ctr import Ctr
from tests.harness.fixtures import bed, bed_keeper, cri, ctr, nothing_left
from tests.harness.shim_binary import ShimBinary
from tests.integration.faults.direct import Direct
from tests.integration.faults.measured import Measured

__all__ = ["bed", "bed_keeper", "cri", "ctr", "nothing_left"]

#: Pid of a sandbox' process: `daemon`, `qemu` or `virtiofsd`.
PidOf = Callable[..., int]

#: Makes a ctr whose containers run with a configuration of their own: its keys by section.
WithSettings = Callable[..., Ctr]


@pytest.fixture
def pid_of(bed: Bed) -> PidOf:
    """Finds a process of a sandbox in its journal."""

    def find(name: str, sandbox: str, namespace: str = "default") -> int:
        journal = read_journal(run_dir_for(str(bed.socket), namespace, sandbox))
        return int(journal["processes"][name]["pid"])

    return find


def address_of(bed: Bed, namespace: str, container: str) -> str:
    """The address of the shim of a container or pod that containerd runs, from its bundle, whoever made that."""
    (address,) = (bed.directory / "state").glob(f"io.containerd.*/{namespace}/{container}/address")
    return address.read_text()


@pytest.fixture(scope="session")
def rootfs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A busybox root directory."""
    root = tmp_path_factory.mktemp("faults") / "rootfs"
    for layer in images.standard_images()[0].layers:
        with tarfile.open(fileobj=io.BytesIO(layer.tar())) as archive:
            archive.extractall(root)
    return root


@pytest.fixture
def swept_direct(bed: Bed, rootfs: Path, tmp_path: Path) -> Iterator[Direct]:
    """Ends what a failed test left running: after `nothing_left` has seen it."""
    one = Direct(ShimBinary(paths.SHIM, bed.socket, "faults"), tmp_path, rootfs, paths.CONFIGURATION)
    yield one
    one.sweep()


@pytest.fixture
def direct(swept_direct: Direct, nothing_left: None) -> Direct:
    """Drives the shim without containerd; the sandboxes that a test makes so must be gone at its end."""
    return swept_direct


@pytest.fixture
def with_settings(bed: Bed, tmp_path: Path) -> WithSettings:
    """Lays a drop-in over the configuration of the private installation."""

    def make(agent: dict[str, object] | None = None, **hypervisor: object) -> Ctr:
        return Ctr(bed.socket, bed.runtime, configuration=write_settings(tmp_path, agent or {}, hypervisor))

    return make


def write_settings(directory: Path, agent: dict[str, object], hypervisor: dict[str, object]) -> Path:
    """A configuration file in `directory` that differs from the installed one in these keys."""
    (directory / "config.d").mkdir()
    path = directory / "configuration.toml"
    path.write_text(paths.CONFIGURATION.read_text())
    sections = {"agent.kata": agent, "hypervisor.qemu": hypervisor}
    lines = [line for name, keys in sections.items() if keys for line in (f"[{name}]", *map(_toml, keys.items()))]
    (directory / "config.d" / "50-fault.toml").write_text("\n".join(lines) + "\n")
    return path


def _toml(item: tuple[str, object]) -> str:
    key, value = item
    return f"{key} = {value}" if isinstance(value, int) else f'{key} = "{value}"'


@pytest.fixture(scope="session")
def measured(pytestconfig: pytest.Config) -> Measured:
    """Collects durations, which are shown when all is done."""
    one = Measured()
    pytestconfig.pluginmanager.register(one, "faults-measured")
    return one
