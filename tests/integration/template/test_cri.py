"""A pod of Kubernetes from a template, through CRI and CNI; the template is built, listed and dropped by `kata-ctl`."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from protos.gen.runtime import v1 as api
from tests.harness import paths
from tests.harness.bed import Bed
from tests.harness.command import Result, run
from tests.harness.cri import Cri
from tests.harness.fixtures import BedKeeper
from tests.harness.runtimes import KATA_SECCOMP
from tests.integration.system.pods import STAY, linux
from tests.integration.template.clones import BUILD_TIMEOUT, host_age, qemu_of

pytestmark = [pytest.mark.integration, pytest.mark.anyio]
MIB = 1 << 20
LIMITS = api.LinuxContainerResources(cpu_period=100_000, cpu_quota=100_000, memory_limit_in_bytes=512 * MIB)


@pytest.fixture
def configuration(bed_keeper: BedKeeper, store: Path) -> Iterator[Path]:
    """The file of a handler of the bed's own, which has templates as long as the test runs."""
    place = bed_keeper.bed().directory / KATA_SECCOMP.name
    drop_in = place / "config.d" / "60-template.toml"
    drop_in.write_text(f'[factory]\nenable_template = true\ntemplate_path = "{store}"\n')
    yield place / "configuration.toml"
    drop_in.unlink()


@pytest.fixture
async def cri(bed: Bed, configuration: Path) -> AsyncIterator[Cri]:
    """Pods that may be clones."""
    async with Cri.connect(bed.socket, bed.pod_logs, KATA_SECCOMP) as client:
        await client.wait_for_image()
        yield client
        await client.remove_all()


def factory(configuration: Path, *words: str) -> Result:
    """`kata-ctl factory`."""
    control = paths.SHIM.with_name("kata-ctl")
    return run(str(control), "factory", *words, "--file", str(configuration), timeout=BUILD_TIMEOUT)


async def test_the_first_pod_is_a_clone_of_what_the_operator_has_built(cri: Cri, configuration: Path) -> None:
    key = factory(configuration, "init").check().text.split()[1]
    assert factory(configuration, "init").check().text == f"template {key} was there already"
    assert key in factory(configuration, "status").check().text

    pod = await cri.run_pod("tpl-cri")
    container = await cri.create(pod, "box", STAY, linux=linux(resources=LIMITS))
    await cri.start(container)

    pid, arguments = qemu_of(pod.id)
    told = (await cri.exec(container, "sh", "-c", "hostname; cat /proc/uptime; ip -4 addr show eth0")).text
    age = host_age(pid)
    name, uptime, addresses = told.split("\n", 2)
    assert "-incoming" in arguments
    # The guest has been up for longer than its QEMU has run: it brought that with it.
    assert float(uptime.split()[0]) > age
    assert name == "tpl-cri"
    address = (await cri.pod_status(pod)).network.ip
    assert re.search(rf"inet {re.escape(address)}/", addresses)
    memory = (await cri.exec(container, "grep", "MemTotal", "/proc/meminfo")).text.split()
    assert int(memory[1]) * 1024 > (2048 + 384) * MIB

    assert key in factory(configuration, "destroy", key[:8]).check().text
    assert (await cri.exec(container, "true")).exit_code == 0
    assert "no templates" in factory(configuration, "status").check().text
    refused = factory(configuration, "destroy", key[:8])
    assert (refused.returncode, len(refused.error_text.splitlines())) == (1, 1)
