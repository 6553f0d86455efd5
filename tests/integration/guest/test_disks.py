"""Disks as storages and as devices: by PCI path, behind a bridge, by SCSI address, nvdimm, plugged in late."""

from __future__ import annotations

import hashlib
import re
import shutil
import time

import pytest
from grpclib.const import Status

from agent_client.errors import AgentError
from protos.gen import grpc as pb
from protos.gen import types as pb_types
from tests.integration.guest import machine as making
from tests.integration.guest.machine import MIB, RUN, SHARED, Disk, Machine

pytestmark = [pytest.mark.anyio, pytest.mark.integration]

CHECKSUM = "sha256sum /mnt/data | { read sum _; echo $sum; }"


def place(name: str) -> str:
    """A mount point as Kata's runtime chooses it."""
    return f"{RUN}/sandbox/storage/{name}"


@pytest.mark.parametrize(
    ("driver", "source", "fstype"),
    [("blk", "02/03", "ext4"), ("scsi", "3:1", "ext4"), ("nvdimm", "/dev/pmem0", "ext4")],
)
async def test_a_disk_is_found_by_its_address_and_mounted(
    machine: Machine, content: bytes, driver: str, source: str, fstype: str
):
    storage = pb.Storage(driver=driver, source=source, fstype=fstype, mount_point=place(driver))

    checksum = await machine.output(CHECKSUM, storages=[storage], binds={"/mnt": place(driver)})

    assert checksum == hashlib.sha256(content).hexdigest()


async def test_the_disk_is_free_again_when_its_container_is_removed(machine: Machine):
    storage = pb.Storage(driver="blk", source="02/03", fstype="ext4", mount_point=place("again"))
    for number in range(2):
        await machine.output(f"echo {number} >> /mnt/log", storages=[storage], binds={"/mnt": place("again")})

    raw = await machine.run(
        "dd if=/dev/disk bs=1M count=16 2>/dev/null | sha256sum",
        devices=[pb.Device(id="02/03", type="blk", container_path="/dev/disk")],
    )

    on_host = hashlib.sha256((machine.scratch / "data").read_bytes()).hexdigest()
    assert raw.stdout.split()[0] == on_host


async def test_a_disk_is_a_device_of_the_container_with_the_guests_numbers(machine: Machine):
    host = pb.LinuxDevice(path="/dev/xvda", type="b", major=8, minor=0, file_mode=0o600)
    deny_all = pb.LinuxDeviceCgroup(allow=False, access="rwm")
    device = pb.Device(id="12", type="blk", container_path="/dev/xvda")
    script = "stat -c %F /dev/xvda; echo hello > /dev/xvda && dd if=/dev/xvda bs=5 count=1 2>/dev/null"

    output = await machine.output(script, devices=[device], linux_devices=[host], rules=[deny_all])
    await machine.output("dd if=/dev/zero of=/dev/d bs=512 count=1", devices=[_device("12", "/dev/d")])

    assert output.splitlines() == ["block special file", "hello"]


async def test_a_read_only_rule_of_the_host_stays_one(machine: Machine):
    host = pb.LinuxDevice(path="/dev/xvda", type="b", major=8, minor=0)
    rules = [
        pb.LinuxDeviceCgroup(allow=False, access="rwm"),
        pb.LinuxDeviceCgroup(allow=True, type="b", major=8, minor=0, access="r"),
    ]
    script = "dd if=/dev/xvda of=/dev/null count=1 2>/dev/null && echo read; echo x > /dev/xvda || echo refused"

    done = await machine.run(script, devices=[_device("12", "/dev/xvda")], linux_devices=[host], rules=rules)

    assert done.stdout.split() == ["read", "refused"]


def _device(address: str, path: str) -> pb.Device:
    return pb.Device(id=address, type="blk", container_path=path)


async def test_the_guests_own_disk_is_nobodys(machine: Machine):
    slot, major, minor = await _root_disk(machine)
    everything = [pb.LinuxDeviceCgroup(allow=True, access="rwm")]

    with pytest.raises(AgentError) as as_device:
        await machine.run("true", devices=[_device(slot, "/dev/x")])
    with pytest.raises(AgentError) as as_storage:
        await machine.run(
            "true", storages=[pb.Storage(driver="blk", source=slot, fstype="erofs", mount_point=place("root"))]
        )
    privileged = await machine.run(
        "ls /dev/stolen; mknod /dev/n c 1 3 && echo x > /dev/n && echo null;"
        f"mknod /dev/x b {major} {minor} && dd if=/dev/x of=/dev/null count=1 && echo read",
        rules=everything,
        linux_devices=[pb.LinuxDevice(path="/dev/stolen", type="b", major=major, minor=minor)],
    )

    assert as_device.value.code is as_storage.value.code is Status.INVALID_ARGUMENT
    assert privileged.stdout.split() == ["null"]
    assert "/dev/stolen: No such file" in privileged.stderr


async def _root_disk(machine: Machine) -> tuple[str, int, int]:
    """The slot and the numbers of the disk that the guest runs from."""
    script = "cd /sys/block; for d in vd*; do test $(cat $d/serial) = kata-image && readlink $d && cat $d/dev; done"
    link, number = (await machine.output(f"{script}; true")).split()
    address = re.search(r"pci0000:00/0000:00:([0-9a-f]{2})\.0/virtio", link)
    assert address is not None
    major, _, minor = number.partition(":")
    return address[1], int(major), int(minor)


async def test_a_container_without_rules_gets_its_own_devices_only(machine: Machine):
    script = "mknod /dev/x b 254 16; cat /dev/x > /dev/null && echo read; echo x > /dev/null && echo null"

    done = await machine.run(script)

    assert done.stdout.split() == ["null"]


@pytest.mark.parametrize(
    ("device", "address"),
    [("virtio-blk-pci,bus=pci-bridge-0,addr=0x5", "02/05"), ("scsi-hd,bus=scsi0.0,scsi-id=7,lun=0", "7:0")],
)
async def test_a_disk_plugged_in_late_is_waited_for(machine: Machine, content: bytes, device: str, address: str):
    name = f"late-{address.replace('/', '-').replace(':', '-')}"
    tree = making.directory_tree(machine.scratch / f"{name}-tree", {"data": content})
    disk = Disk(name, making.ext4(machine.scratch / name, 16 * MIB, tree), device)
    driver = "scsi" if ":" in address else "blk"
    storage = pb.Storage(driver=driver, source=address, fstype="ext4", mount_point=place(name))

    await machine.plug(disk)
    begun = time.monotonic()
    container_id = machine.name()
    await machine.create(container_id, CHECKSUM, storages=[storage], binds={"/mnt": place(name)})
    print(f"{driver}: {time.monotonic() - begun:.2f} s from device_add to a created container")

    done = await machine.finish(container_id)
    assert done.stdout.strip() == hashlib.sha256(content).hexdigest()


async def test_a_disk_that_never_comes_is_a_deadline(machine: Machine):
    with pytest.raises(AgentError) as caught:
        await machine.run("true", devices=[_device("02/1e", "/dev/x")])

    assert caught.value.code is Status.DEADLINE_EXCEEDED


@pytest.mark.parametrize("address", ["", "zz", "02/33", "../02", "02//03", "02/03/04/05/06/07/08/09/0a", "/dev/../vda"])
async def test_what_is_no_address_is_refused(machine: Machine, address: str):
    storage = pb.Storage(driver="blk", source=address, fstype="ext4", mount_point=place("bad"))

    with pytest.raises(AgentError) as caught:
        await machine.run("true", storages=[storage])

    assert caught.value.code is Status.INVALID_ARGUMENT


@pytest.mark.parametrize("mount_point", ["/", "/usr", "/run/kata-agent", f"{RUN}/sandbox", f"{RUN}/../x", SHARED[:-11]])
async def test_a_disk_is_mounted_nowhere_but_in_katas_tree(machine: Machine, mount_point: str):
    storage = pb.Storage(driver="blk", source="02/03", fstype="ext4", mount_point=mount_point)

    with pytest.raises(AgentError) as caught:
        await machine.run("true", storages=[storage])

    assert caught.value.code is Status.INVALID_ARGUMENT


async def test_a_disk_is_no_way_to_other_file_systems(machine: Machine):
    storage = pb.Storage(driver="blk", source="02/03", fstype="proc", mount_point=place("proc"))

    with pytest.raises(AgentError) as caught:
        await machine.run("true", storages=[storage])

    assert caught.value.code is Status.INVALID_ARGUMENT


async def test_a_failed_container_gives_its_disks_back(machine: Machine):
    storages = [
        pb.Storage(driver="blk", source="02/03", fstype="ext4", mount_point=place("first")),
        pb.Storage(driver="blk", source="12", fstype="xfs", mount_point=place("second")),
    ]

    with pytest.raises(AgentError, match="no valid xfs"):
        await machine.run("true", storages=storages)

    assert "first" not in await machine.output("cat /proc/mounts; ls /mnt", binds={"/mnt": f"{RUN}/sandbox/storage"})


async def test_a_file_system_is_made_on_an_empty_disk_and_kept_afterwards(machine: Machine):
    storage = pb.Storage(
        driver="blk",
        source="12",
        fstype="ext4",
        mount_point=place("made"),
        driver_options=["create_filesystem"],
        fs_group=pb.FsGroup(group_id=2000, group_change_policy=pb_types.FsGroupChangePolicy.Always),
    )
    binds = {"/mnt": place("made")}

    first = await machine.output("echo kept > /mnt/file; stat -c '%g %a' /mnt", storages=[storage], binds=binds)
    second = await machine.output("cat /mnt/file; stat -c '%g %a' /mnt/file", storages=[storage], binds=binds)

    assert first == "2000 2775"
    assert second.split() == ["kept", "2000", "664"]


async def test_a_volume_grows_with_its_disk(machine: Machine):
    path = place("grown")
    disk = Disk("grow", making.ext4(machine.scratch / "grow", 16 * MIB), "virtio-blk-pci,bus=pci-bridge-0,addr=0x7")
    await machine.plug(disk)
    container_id = machine.name()
    storage = pb.Storage(driver="blk", source="02/07", fstype="ext4", mount_point=path)
    await machine.create(container_id, "sleep 1000", storages=[storage])
    before = (await machine.agent.storage.get_volume_stats(path)).usage[0]

    await machine.qmp("block_resize", {"node-name": "grow", "size": 48 * MIB})
    await machine.agent.storage.resize_volume(path, 48 * MIB)

    after = await machine.agent.storage.get_volume_stats(path)
    await machine.agent.remove_container(container_id)
    assert before.total < 16 * MIB
    assert 40 * MIB < after.usage[0].total <= 48 * MIB
    assert [usage.unit for usage in after.usage] == [pb.VolumeUsageUnit.BYTES, pb.VolumeUsageUnit.INODES]


async def test_a_scsi_volume_grows_with_its_disk(machine: Machine):
    path = place("scsi-grown")
    await machine.plug(
        Disk("scsi-grow", making.ext4(machine.scratch / "scsi-grow", 16 * MIB), "scsi-hd,bus=scsi0.0,scsi-id=9,lun=0")
    )
    container_id = machine.name()
    storage = pb.Storage(driver="scsi", source="9:0", fstype="ext4", mount_point=path)
    await machine.create(container_id, "sleep 1000", storages=[storage])

    await machine.qmp("block_resize", {"node-name": "scsi-grow", "size": 48 * MIB})
    await machine.agent.storage.resize_volume(path, 0)

    after = await machine.agent.storage.get_volume_stats(path)
    await machine.agent.remove_container(container_id)
    assert after.usage[0].total > 40 * MIB


@pytest.mark.skipif(shutil.which("mkfs.xfs") is None, reason="the host has no xfsprogs")
async def test_two_snapshots_of_one_xfs_are_mounted_at_once_and_grow(machine: Machine):
    image = making.xfs(machine.scratch / "xfs0", 320 * MIB)
    shutil.copy(image, machine.scratch / "xfs1")
    for number in range(2):
        device = f"virtio-blk-pci,bus=pci-bridge-0,addr={0x10 + number:#x}"
        await machine.plug(Disk(f"xfs{number}", machine.scratch / f"xfs{number}", device))
    storages = [
        pb.Storage(driver="blk", source=f"02/{0x10 + n:02x}", fstype="xfs", mount_point=place(f"xfs{n}"))
        for n in range(2)
    ]
    container_id = machine.name()
    await machine.create(container_id, "sleep 1000", storages=storages)

    await machine.qmp("block_resize", {"node-name": "xfs0", "size": 400 * MIB})
    await machine.agent.storage.resize_volume(place("xfs0"), 400 * MIB)

    sizes = [(await machine.agent.storage.get_volume_stats(place(f"xfs{n}"))).usage[0].total for n in range(2)]
    await machine.agent.remove_container(container_id)
    assert sizes[0] - sizes[1] == pytest.approx(80 * MIB, abs=MIB)


async def test_the_guest_swaps_to_a_disk(machine: Machine):
    await machine.agent.storage.add_swap([0x13])

    assert "/dev/vd" in await machine.output("cat /proc/swaps")


async def test_a_disk_that_mkswap_has_not_seen_is_refused(machine: Machine):
    with pytest.raises(AgentError) as caught:
        await machine.agent.storage.add_swap([0x2, 0x3])

    assert caught.value.code is Status.FAILED_PRECONDITION
