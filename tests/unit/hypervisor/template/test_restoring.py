"""Contract: how a template and its clones are told to QEMU, over its command line and its QMP."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import anyio
import pytest

from hypervisor.command_line import Inherited, command_line
from hypervisor.devices import SharedFs
from hypervisor.errors import HypervisorError
from hypervisor.hotplug import shared_fs
from hypervisor.hotplug.plug import Hotplug
from hypervisor.hotplug.slots import PciSlots
from hypervisor.template.migration import restore, save
from hypervisor.vm import SavedState, VmSpec
from tests.fakes.monitor import FakeMonitor

pytestmark = pytest.mark.anyio
SPEC = VmSpec(
    name="pod",
    run_dir=Path("/run/pod"),
    qemu=Path("/usr/bin/qemu"),
    kernel=Path("/kernel"),
    initrd=Path("/initrd"),
    vcpus=1,
    memory_mib=256,
    accelerator="tcg",
)
FDS = Inherited(3, 4, agent_listener=5)
FS = SharedFs(Path("/run/pod/fs"), "kataShared", 1024)


def memory_of(spec: VmSpec) -> str:
    return next(word for word in command_line(spec, FDS) if word.startswith("memory-backend"))


@pytest.fixture
def monitor() -> FakeMonitor:
    return FakeMonitor(lambda _: None)


@pytest.fixture
def hotplug(monitor: FakeMonitor) -> Hotplug:
    return Hotplug(monitor, PciSlots(1))


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, "memory-backend-memfd,id=ram,size=256M,share=on"),
        ({"ram_file": Path("/t/memory")}, "memory-backend-file,id=ram,size=256M,share=on,mem-path=/t/memory"),
        (
            {"saved": SavedState(7, 8, is_shared=False)},
            "memory-backend-file,id=ram,size=256M,share=off,mem-path=/proc/self/fd/7",
        ),
        (
            {"saved": SavedState(7, 8, is_shared=True)},
            "memory-backend-file,id=ram,size=256M,share=on,mem-path=/proc/self/fd/7",
        ),
    ],
)
def test_where_the_memory_is(change, expected):
    assert memory_of(replace(SPEC, **change)) == expected


def test_a_clone_waits_for_its_state_and_is_otherwise_its_template():
    clone = replace(SPEC, saved=SavedState(7, 8, is_shared=True))

    cold, restored = command_line(SPEC, FDS), command_line(clone, FDS)

    assert [word for word in restored if word not in cold and "memory-backend" not in word] == [
        "-S",
        "-incoming",
        "defer",
    ]


@pytest.mark.parametrize(("move", "command"), [(save, "migrate"), (restore, "migrate-incoming")])
async def test_the_state_goes_through_a_descriptor_and_leaves_the_memory_out(monitor, hotplug, move, command):
    monitor.answers["query-migrate"] = {"status": "completed"}

    async with anyio.create_task_group() as group:
        group.start_soon(move, hotplug, 9, 5.0)
        await until(lambda: command in names(monitor))
        monitor.tell("MIGRATION", status="active")
        monitor.tell("MIGRATION", status="completed")

    wanted = {item["capability"] for item in dict(monitor.commands)["migrate-set-capabilities"]["capabilities"]}
    assert "x-ignore-shared" in wanted
    assert dict(monitor.commands)[command] == {"uri": "fd:state"}


async def test_a_state_that_can_not_be_read_is_an_error_with_qemus_words(monitor, hotplug):
    monitor.answers["query-migrate"] = {"status": "failed", "error-desc": "no such device"}
    errors: list[str] = []

    async def run() -> None:
        try:
            await restore(hotplug, 9, 5.0)
        except HypervisorError as error:
            errors.append(str(error))

    async with anyio.create_task_group() as group:
        group.start_soon(run)
        await until(lambda: "migrate-incoming" in names(monitor))
        monitor.tell("MIGRATION", status="failed")

    assert errors == ["migrate-incoming failed: no such device"]


async def test_a_state_that_does_not_come_to_an_end_is_given_up(hotplug):
    with pytest.raises(HypervisorError, match=r"did not end within 0\.01 s"):
        await restore(hotplug, 9, 0.01)


async def test_the_shared_file_system_goes_on_a_bridge(monitor, hotplug):
    await shared_fs.plug(hotplug, FS)

    device = monitor.devices["shared-fs"]
    assert (device["driver"], device["tag"], device["bus"]) == ("vhost-user-fs-pci", "kataShared", "pci-bridge-0")
    assert dict(monitor.commands)["chardev-add"]["backend"]["data"]["addr"]["data"] == {"path": "/run/pod/fs"}


async def test_a_shared_file_system_that_qemu_refuses_leaves_nothing(monitor, hotplug):
    monitor.errors["device_add"] = "Failed to connect"

    with pytest.raises(HypervisorError, match="Failed to connect"):
        await shared_fs.plug(hotplug, FS)

    assert hotplug.slots.taken == {}
    assert names(monitor)[-1] == "chardev-remove"


def names(monitor: FakeMonitor) -> list[str]:
    return [name for name, _ in monitor.commands]


async def until(condition) -> None:
    with anyio.fail_after(5):
        while not condition():
            await anyio.sleep(0.001)
