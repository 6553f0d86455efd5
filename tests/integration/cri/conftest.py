"""Fixtures of the tests of CRI's behaviour: pods under runc and in a VM, each with a container to exec in.

A test that takes `cri` and `pod` runs under both runtimes and expects the same of them; a module whose tests are about
one of them says so by `RUNTIMES`. Modules share a pod, but for one that asks for a pod of its own by `POD`.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any

import pytest

from protos.gen.runtime import v1 as api
from tests.harness import paths
from tests.harness.bed import Bed
from tests.harness.cri import Container, Cri, Pod
from tests.harness.fixtures import BedKeeper, bed, bed_keeper, nothing_left
from tests.harness.images import archive
from tests.harness.leaks import LeakCheck
from tests.harness.runtimes import KATA, RUNC, Runtime
from tests.integration.cri.images import IMAGES
from tests.integration.system.pods import STAY, PodKeeper, linux, pod_linux

__all__ = ["bed", "bed_keeper", "nothing_left"]

BOTH = (RUNC, KATA)

#: Of the pod that modules share: safe sysctls, and two that a kubelet has to be told to allow.
SYSCTLS = {
    "kernel.shm_rmid_forced": "1",
    "net.ipv4.ip_local_port_range": "10000\t20000",
    "kernel.msgmax": "16384",
    "net.core.somaxconn": "777",
}
LABELS = {"app": "pod"}
ANNOTATIONS = {"note": "of the pod"}
_SHARED = {"labels": LABELS, "annotations": ANNOTATIONS, "linux": pod_linux(sysctls=SYSCTLS)}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run the tests of a module under its `RUNTIMES`."""
    if "runtime" in metafunc.fixturenames:
        runtimes: Iterable[Runtime] = getattr(metafunc.module, "RUNTIMES", BOTH)
        metafunc.parametrize("runtime", runtimes, ids=lambda runtime: runtime.name, scope="module", indirect=True)


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """One loop for all, so that a fixture may live as long as a module."""
    return "asyncio"


@pytest.fixture(scope="module")
def runtime(request: pytest.FixtureRequest) -> Runtime:
    """What the module's pod runs under."""
    runtime: Runtime = request.param
    return runtime


class Keeper(PodKeeper):
    """Keeps a pod, and one container in it that stays."""

    _box: tuple[Pod, Container] | None = None
    _images_in: Bed | None = None

    async def pod(self) -> tuple[Cri, Pod]:
        """As of `PodKeeper`; the images of these tests are there too."""
        kept = await super().pod()
        bed = self._beds.bed()
        if self._images_in is not bed:
            bed.ctr("k8s.io").import_archive(_archive())
            for image in IMAGES:
                await kept[0].wait_for_image(image.name)
            self._images_in = bed
        return kept

    async def box(self) -> Container:
        """The container."""
        cri, pod = await self.pod()
        if self._box is None or self._box[0] is not pod:
            self._box = pod, await cri.run(pod, "box", *STAY, linux=linux(_pid_mode(pod)))
        return self._box[1]


def _pid_mode(pod: Pod) -> api.NamespaceMode:
    context = pod.config.linux.security_context if pod.config.linux else None
    options = context.namespace_options if context else None
    return options.pid if options else api.NamespaceMode.POD


def _archive() -> Path:
    """The images of these tests in one file."""
    path = paths.IMAGES / "cri.tar"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(archive(IMAGES))
    return path


class Keepers:
    """The pods of these tests by name. Each goes with the last module that has it; after that nothing is left."""

    def __init__(self, beds: BedKeeper) -> None:
        self._beds = beds
        self._open: dict[str, Keeper] = {}
        self._before: tuple[Bed, LeakCheck] | None = None

    def keeper(self, name: str, runtime: Runtime, settings: dict[str, Any]) -> Keeper:
        """Owner of the pod of that name."""
        if not self._open:
            bed = self._beds.bed()
            self._before = bed, bed.leak_check()
        if name not in self._open:
            self._open[name] = Keeper(self._beds, name, runtime, **settings)
        return self._open[name]

    async def close(self, name: str) -> None:
        """Remove it."""
        await self._open.pop(name).close()
        if not self._open and self._before is not None and self._before[0] is self._beds.bed():
            self._before[1].assert_clean()

    async def close_all(self) -> None:
        """Remove what a run has left that was broken off."""
        for name in list(self._open):
            await self.close(name)


def _pod_name(module: Any, runtime: Runtime) -> str:
    own = re.sub(r"\W|test_", "", module.__name__.rpartition(".")[2]) if hasattr(module, "POD") else "shared"
    return f"{own}-{runtime.name}"


def _is_last_with(name: str, request: pytest.FixtureRequest) -> bool:
    """Whether no module after this one has the pod."""
    modules = [
        item.module
        for item in request.session.items
        if isinstance(item, pytest.Function)
        and hasattr(item, "callspec")
        and "runtime" in item.callspec.params
        and _pod_name(item.module, item.callspec.params["runtime"]) == name
    ]
    return bool(modules) and modules[-1] is request.module


@pytest.fixture(scope="session")
async def keepers(bed_keeper: BedKeeper) -> AsyncIterator[Keepers]:
    """Owner of the pods."""
    keepers = Keepers(bed_keeper)
    yield keepers
    await keepers.close_all()


@pytest.fixture(scope="module")
async def keeper(keepers: Keepers, runtime: Runtime, request: pytest.FixtureRequest) -> AsyncIterator[Keeper]:
    """Owner of the module's pod."""
    name = _pod_name(request.module, runtime)
    settings = {"linux": pod_linux(), **getattr(request.module, "POD", _SHARED)}
    yield keepers.keeper(name, runtime, settings)
    if _is_last_with(name, request):
        await keepers.close(name)


@pytest.fixture
async def kept(keeper: Keeper) -> tuple[Cri, Container]:
    """The client, and the container that stays; it and its pod run before what the test leaves is looked at."""
    box = await keeper.box()
    return (await keeper.pod())[0], box


@pytest.fixture
def cri(kept: tuple[Cri, Container], nothing_left: None) -> Cri:
    """The client."""
    return kept[0]


@pytest.fixture
def pod(kept: tuple[Cri, Container]) -> Pod:
    """The pod."""
    return kept[1].pod


@pytest.fixture
def box(kept: tuple[Cri, Container]) -> Container:
    """A container that stays, for what does not change it."""
    return kept[1]
