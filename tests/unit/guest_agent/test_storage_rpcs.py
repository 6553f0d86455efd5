"""The RPCs on volumes, swap and memory: done in Kata's tree, refused everywhere else."""

from __future__ import annotations

import os
import struct

import pytest
from grpclib.const import Status
from grpclib.exceptions import GRPCError

from guest.agent import kernel
from guest.agent.service import AgentService
from guest.agent.storage import growth, volumes
from protos.lean.gen import grpc as pb

pytestmark = pytest.mark.anyio


@pytest.fixture
async def service(agent, sysfs):
    agent.devices._root = "/proc"
    agent.devices.timeout = 0.01
    service = AgentService(agent)
    await service.create_sandbox(pb.CreateSandboxRequest())
    return service


@pytest.fixture
def volume(layout):
    place = f"{layout.sandbox}/volume"
    os.makedirs(place)
    return place


async def refused(awaitable) -> GRPCError:
    with pytest.raises(GRPCError) as caught:
        await awaitable
    return caught.value


class TestStatistics:
    async def test_a_volume_has_bytes_and_inodes(self, service, volume):
        answer = await service.get_volume_stats(pb.VolumeStatsRequest(volume_guest_path=volume))

        real = os.statvfs(volume)
        blocks, inodes = answer.usage
        assert (blocks.unit, inodes.unit) == (pb.VolumeUsageUnit.BYTES, pb.VolumeUsageUnit.INODES)
        assert blocks.total == real.f_blocks * real.f_frsize
        assert inodes.total == real.f_files
        assert not answer.volume_condition.abnormal

    @pytest.mark.parametrize("path", ["", "/", "/etc", "relative", "{run}/../etc", "{run}"])
    async def test_paths_outside_of_katas_tree_are_refused(self, service, layout, path):
        request = pb.VolumeStatsRequest(volume_guest_path=path.format(run=layout.shared_run))

        assert (await refused(service.get_volume_stats(request))).status is Status.INVALID_ARGUMENT

    async def test_a_volume_that_is_not_there_is_not_found(self, service, layout):
        request = pb.VolumeStatsRequest(volume_guest_path=f"{layout.sandbox}/none")

        assert (await refused(service.get_volume_stats(request))).status is Status.NOT_FOUND


class TestResize:
    @pytest.fixture
    def disk(self, volume, sysfs, layout):
        """The volume's file system as a disk `vdx` of the guest, of 100 sectors, of type ext4."""
        device = os.stat(volume).st_dev
        sysfs.disk("devices/virtual", "vdx", f"{os.major(device)}:{os.minor(device)}", sectors=100)
        os.makedirs(f"{layout.proc}/self", exist_ok=True)
        self.mounted_as(layout, "ext4")
        return sysfs

    def mounted_as(self, layout, fstype):
        with open(f"{layout.proc}/self/mountinfo", "w") as file:
            file.write(f"1 1 0:1 / {layout.sandbox}/volume rw - {fstype} {layout.dev}/vdx rw\n")

    @pytest.fixture
    def grown(self, monkeypatch):
        calls = []
        monkeypatch.setattr(growth, "grow", lambda fd, fstype, size: calls.append((fstype, size)))
        return calls

    @pytest.mark.parametrize(("asked", "given"), [(50_000, 50_000), (0, 51_200)])
    async def test_the_file_system_grows_to_what_is_asked_or_to_its_disk(
        self, service, volume, disk, grown, asked, given
    ):
        await service.resize_volume(pb.ResizeVolumeRequest(volume_guest_path=volume, size=asked))

        assert grown == [("ext4", given)]

    async def test_a_disk_that_does_not_grow_is_a_deadline_after_it_was_asked(self, service, volume, disk, grown):
        device = os.stat(volume).st_dev
        rescan = disk.file(f"dev/block/{os.major(device)}:{os.minor(device)}/device/rescan", "")
        request = pb.ResizeVolumeRequest(volume_guest_path=volume, size=1 << 30)

        assert (await refused(service.resize_volume(request))).status is Status.DEADLINE_EXCEEDED
        with open(rescan) as file:
            assert file.read() == "1"
        assert grown == []

    async def test_what_can_not_be_grown_is_named(self, service, volume, disk, grown, layout):
        self.mounted_as(layout, "vfat")

        error = await refused(service.resize_volume(pb.ResizeVolumeRequest(volume_guest_path=volume, size=1)))

        assert (error.status, grown) == (Status.FAILED_PRECONDITION, [])
        assert "vfat" in error.message

    async def test_what_is_no_disk_is_refused(self, service, volume, grown):
        error = await refused(service.resize_volume(pb.ResizeVolumeRequest(volume_guest_path=volume, size=1)))

        assert error.status is Status.INVALID_ARGUMENT

    def test_the_kernel_is_asked_in_blocks_and_never_to_shrink(self, volume, monkeypatch):
        import fcntl

        calls = []

        def ioctl(fd, number, argument):
            calls.append((number, bytes(argument)))
            if number == growth._XFS_GEOMETRY:
                struct.pack_into("=I", argument, 0, 4096)
                struct.pack_into("=IQ", argument, 28, 25, 1000)

        monkeypatch.setattr(fcntl, "ioctl", ioctl)
        fd = os.open(volume, os.O_RDONLY)
        status = os.statvfs(fd)
        large = (status.f_blocks + 1024) * status.f_frsize
        for fstype in ("ext4", "xfs", "btrfs"):
            growth.grow(fd, fstype, 4096)
        assert calls == []

        for fstype in ("ext4", "xfs", "btrfs"):
            growth.grow(fd, fstype, large)
        os.close(fd)

        assert calls[0] == (growth._EXT4_RESIZE, struct.pack("=Q", large // status.f_frsize))
        assert calls[2] == (growth._XFS_GROW, struct.pack("=QI4x", large // 4096, 25))
        assert calls[3][1][8:].rstrip(b"\0") == str(large).encode()


class TestEphemeral:
    @pytest.fixture
    def remounts(self, monkeypatch):
        calls = []
        monkeypatch.setattr(kernel, "mount", lambda *arguments: calls.append(arguments))
        monkeypatch.setattr(kernel, "unmount", lambda *arguments: None)
        return calls

    def storage(self, layout, *options, **fields):
        return pb.Storage(driver="ephemeral", mount_point=f"{layout.sandbox}/shm", options=list(options), **fields)

    async def attach(self, agent, layout, remounts):
        await agent.storages.attach_all("", [self.storage(layout, "size=1m")])
        remounts.clear()

    async def test_only_the_size_changes(self, service, agent, layout, remounts):
        await self.attach(agent, layout, remounts)
        storage = self.storage(layout, "remount", "exec,size=2m", "fsgid=5")

        await service.update_ephemeral_mounts(pb.UpdateEphemeralMountsRequest(storages=[storage]))

        (_, _, fstype, flags, data) = remounts[0]
        assert (fstype, data) == ("tmpfs", "size=2m")
        kept = os.statvfs(f"{layout.sandbox}/shm").f_flag & volumes._KEPT_FLAGS
        assert flags == kernel.MS_REMOUNT | kept

    async def test_what_was_not_mounted_is_not_found(self, service, layout, remounts):
        request = pb.UpdateEphemeralMountsRequest(storages=[self.storage(layout, "size=2m")])

        assert (await refused(service.update_ephemeral_mounts(request))).status is Status.NOT_FOUND
        assert remounts == []

    @pytest.mark.parametrize("size", ["", "x", "1;2", "9" * 30])
    async def test_a_malformed_size_is_refused(self, service, agent, layout, remounts, size):
        await self.attach(agent, layout, remounts)
        request = pb.UpdateEphemeralMountsRequest(storages=[self.storage(layout, f"size={size}")])

        assert (await refused(service.update_ephemeral_mounts(request))).status is Status.INVALID_ARGUMENT
        assert remounts == []

    async def test_other_storages_are_refused(self, service, layout):
        for storage in (
            self.storage(layout, "size=1", fstype="hugetlbfs"),
            pb.Storage(driver="blk", mount_point=f"{layout.sandbox}/x"),
            pb.Storage(driver="ephemeral", mount_point="/usr"),
        ):
            request = pb.UpdateEphemeralMountsRequest(storages=[storage])
            assert (await refused(service.update_ephemeral_mounts(request))).status is Status.INVALID_ARGUMENT


class TestSwap:
    @pytest.fixture
    def swaps(self, monkeypatch):
        calls = []

        def swap_on(path):
            if path.startswith("/proc/self/fd"):
                path = os.readlink(path)
            if path.endswith("raw"):
                raise OSError(22, "Invalid argument")
            calls.append(path)

        monkeypatch.setattr(kernel, "swap_on", swap_on)
        return calls

    async def test_a_disk_by_its_pci_path(self, service, sysfs, swaps):
        sysfs.disk(f"{sysfs.bridge('02.0', '01')}:03.0/virtio7", "vdc", "254:32")

        await service.add_swap(pb.AddSwapRequest(pci_path=[2, 3]))

        assert swaps == [f"{sysfs.dev}/vdc"]

    async def test_a_disk_by_its_node_and_a_file_by_its_path(self, service, sysfs, layout, swaps):
        sysfs.disk("devices/virtual", "vdc", "254:32")
        path = f"{layout.sandbox}/swapfile"
        os.makedirs(layout.sandbox, exist_ok=True)
        with open(path, "w"):
            pass

        await service.add_swap_path(pb.AddSwapPathRequest(path="/dev/vdc"))
        await service.add_swap_path(pb.AddSwapPathRequest(path=path))

        assert swaps == [f"{sysfs.dev}/vdc", path]

    async def test_what_was_not_made_for_swap_says_what_to_do(self, service, sysfs, swaps):
        sysfs.disk("devices/virtual", "raw", "254:32")

        error = await refused(service.add_swap_path(pb.AddSwapPathRequest(path="/dev/raw")))

        assert error.status is Status.FAILED_PRECONDITION
        assert "mkswap" in error.message

    @pytest.mark.parametrize("path", ["", "/etc/passwd", "/dev/../etc/passwd", "x", "{run}/sandbox"])
    async def test_other_paths_are_refused(self, service, layout, swaps, path):
        os.makedirs(layout.sandbox, exist_ok=True)
        request = pb.AddSwapPathRequest(path=path.format(run=layout.shared_run))

        assert (await refused(service.add_swap_path(request))).status is Status.INVALID_ARGUMENT
        assert swaps == []

    async def test_a_malformed_pci_path_is_refused(self, service):
        for slots in ([], [99], [1] * 20):
            assert (
                await refused(service.add_swap(pb.AddSwapRequest(pci_path=slots)))
            ).status is Status.INVALID_ARGUMENT


class TestMemoryProbe:
    async def test_addresses_are_written_to_the_kernel(self, service, sysfs):
        path = sysfs.file("devices/system/memory/probe", "")

        await service.mem_hotplug_by_probe(pb.MemHotplugByProbeRequest(mem_hotplug_probe_addr=[0x140000000]))

        with open(path) as file:
            assert file.read() == "0x140000000"

    async def test_a_kernel_without_it_says_so(self, service):
        request = pb.MemHotplugByProbeRequest(mem_hotplug_probe_addr=[1])

        assert (await refused(service.mem_hotplug_by_probe(request))).status is Status.FAILED_PRECONDITION


async def test_shares_are_looked_at_anew(service, layout, monkeypatch):
    os.makedirs(f"{layout.proc}/self", exist_ok=True)
    with open(f"{layout.proc}/self/mountinfo", "w") as file:
        file.write(f"1 1 0:1 / {layout.shared_containers} rw - virtiofs kataShared rw\n")
        file.write("2 1 0:2 / /gone rw - virtiofs kataShared rw\n")
    looked = []
    plain = os.stat
    monkeypatch.setattr(volumes.os, "stat", lambda path, **more: looked.append(path) or plain(path, **more))

    await service.remove_stale_virtiofs_share_mounts(pb.RemoveStaleVirtiofsShareMountsRequest())

    assert f"{layout.shared_containers}/c1" in looked


class TestContainerDevices:
    async def test_a_container_gets_its_devices_and_its_exec_the_guests_addresses(
        self, service, agent, make_spec, sysfs
    ):
        sysfs.disk("devices/pci0000:00/0000:00:10.0/virtio3", "vdb", "254:16")
        os.makedirs(f"{sysfs.sys}/devices/pci0000:00/0000:00:09.0")
        spec = make_spec("sleep", "1000")
        spec.process.env.append("PCIDEVICE_NIC=0000:3b:00.0")
        devices = [
            pb.Device(type="blk", id="10", container_path="/dev/data"),
            pb.Device(type="vfio-pci-gk", id="v", container_path="/dev/vfio/1", options=["0000:3b:00.0=09"]),
        ]

        await service.create_container(
            pb.CreateContainerRequest(container_id="c1", exec_id="c1", oci=spec, devices=devices)
        )

        config = agent.containers.get("c1").config
        assert config["linux"]["devices"][0]["path"] == "/dev/data"
        assert config["process"]["env"][-1] == "PCIDEVICE_NIC=0000:00:09.0"
        assert agent.containers.get("c1").pci_addresses == {"0000:3b:00.0": "0000:00:09.0"}

    async def test_a_device_that_does_not_come_leaves_nothing_behind(self, service, agent, make_spec, layout):
        storage = pb.Storage(driver="local", mount_point=f"{layout.sandbox}/local")
        device = pb.Device(type="blk", id="10", container_path="/dev/data")
        request = pb.CreateContainerRequest(
            container_id="c1", exec_id="c1", oci=make_spec("true"), devices=[device], storages=[storage]
        )

        assert (await refused(service.create_container(request))).status is Status.DEADLINE_EXCEEDED

        assert agent.storages.mount_points == []
        assert agent.containers.ids == []

    async def test_new_limits_keep_the_root_disk_denied(self, service, agent, make_spec, monkeypatch):
        agent.devices._root_numbers = frozenset({(254, 0)})
        spec = make_spec("sleep", "1000")
        await service.create_container(pb.CreateContainerRequest(container_id="c1", exec_id="c1", oci=spec))
        rule = pb.LinuxDeviceCgroup(allow=True, access="rwm")

        await service.update_container(
            pb.UpdateContainerRequest(container_id="c1", resources=pb.LinuxResources(devices=[rule]))
        )

        with open(f"{agent.layout.crun_root}/c1/resources.json") as file:
            assert '"allow": false, "type": "b", "major": 254, "minor": 0' in file.read()
