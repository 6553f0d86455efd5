"""Fixtures of the tests of CRI's behaviour: a pod for each module, under runc and in a VM, with a container to exec in.

A test that takes `cri` and `pod` runs under both runtimes and expects the same of them; a module whose tests are about
one of them says so by `RUNTIMES`, and what its pod asks for by `POD`.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterable
from pathlib import Path

import pytest

from protos.gen.runtime import v1 as api
from tests.harness import paths
from tests.harness.bed import Bed
from tests.harness.cri import Container, Cri, Pod
from tests.harness.fixtures import BedKeeper, bed, bed_keeper, nothing_left
from tests.harness.images import archive
from tests.harness.runtimes import KATA, RUNC, Runtime
from tests.integration.cri.images import IMAGES
from tests.integration.system.pods import STAY, PodKeeper, linux, pod_linux

__all__ = ["bed", "bed_keeper", "nothing_left"]

BOTH = (RUNC, KATA)


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


@pytest.fixture(scope="module")
async def keeper(bed_keeper: BedKeeper, runtime: Runtime, request: pytest.FixtureRequest) -> AsyncIterator[Keeper]:
    """Owner of the module's pod; checks that its removal leaves nothing."""
    bed = bed_keeper.bed()
    check = bed.leak_check()
    name = re.sub(r"\W|test_", "", request.module.__name__.rpartition(".")[2])
    settings = {"linux": pod_linux(), **getattr(request.module, "POD", {})}
    keeper = Keeper(bed_keeper, f"{name}-{runtime.name}", runtime, **settings)
    yield keeper
    await keeper.close()
    if bed is bed_keeper.bed():
        check.assert_clean()


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
