"""All files of one container brought to where the guest finds them: its root file system, its volumes, its devices.

First everything is looked at and planned, then made: the root file system, the shared entries, the disks. What is made
is registered with the container's `held` stack, and given back when the guest has let go of it.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from hypervisor.hotplug.addresses import DiskAddress
from protos.gen import grpc as agent_pb
from protos.gen import types as types_pb
from sandbox import guest_paths
from sandbox.interface import Mount
from sandbox.oci import Device, Spec, SpecMount
from sandbox.sharing.share import Guest, Share
from sandbox.storage import devices, direct, images
from sandbox.storage.disks import PodDisks
from sandbox.storage.rootfs import DiskRootfs, Layer, plan_rootfs
from sandbox.storage.sources import HostSources
from sandbox.volumes import DiskVolume, VolumePlan, VolumeRules, host_sources, plan_volumes

#: What Kata's agent takes for layers of one root file system, and for the writable one among them.
_LAYERED = "X-kata.multi-layer=true"
_UPPER = "X-kata.overlay-upper"
_LOWER = "X-kata.overlay-lower"
_MAKE_FILESYSTEM = "X-kata.mkfs=true"
_MAKE_DIRECTORY = "X-kata.mkdir.path={{ mount 0 }}"


@dataclass(frozen=True)
class StorageRules:
    """How a pod's files reach its guest, by its configuration."""

    #: Whether block devices that hold a root file system are plugged in rather than mounted on the host.
    plugs_rootfs: bool = False
    #: Whether emptyDirs on disk are the guest's own directories.
    local_empty_dirs: bool = False
    kubelet_root: Path = Path("/var/lib/kubelet")


@dataclass
class GuestFiles:
    """What the guest is told: the root file system's place, mounts and devices of the spec, and what makes them."""

    root: str
    spec: Spec
    mounts: tuple[SpecMount, ...]
    storages: list[agent_pb.Storage] = field(default_factory=list)
    devices: list[agent_pb.Device] = field(default_factory=list)


class PodStorage:
    """Where a pod's containers get their files from."""

    def __init__(self, sandbox_id: str, rules: StorageRules, share: Share, disks: PodDisks) -> None:
        self.rules = rules
        self._sandbox_id = sandbox_id
        self._share = share
        self._disks = disks
        #: Where the guest makes directories: in the root file system of the pod's own container, which stays as long as
        #: the pod. A pod of the Sandbox API has none.
        self._local_root: str | None = None

    async def prepare(
        self,
        guest: Guest,
        container_id: str,
        spec: Spec,
        rootfs: Sequence[Mount],
        bundle: Path,
        held: AsyncExitStack,
    ) -> GuestFiles:
        """Bring everything there; raises `SandboxError`, `AgentError`; `held` gives back what was made until then."""
        disk_rootfs = plan_rootfs(rootfs, use_devices=self.rules.plugs_rootfs, is_device=images.is_device)
        root = guest_paths.disk_rootfs(container_id) if disk_rootfs else guest_paths.rootfs(container_id)
        if container_id == self._sandbox_id:
            self._local_root = f"{root}/local"
        plan = self._plan(container_id, spec)
        wanted = devices.disk_devices(spec, images.is_node_of)
        sent = devices.with_devices(spec, devices.guest_devices(spec, wanted, plan.devices))
        files = GuestFiles(root, sent, plan.mounts)
        held.push_async_callback(self._share.remove, container_id)
        if disk_rootfs is None:
            fallback = Path(os.path.join(bundle, spec.root.path))
            await self._share.add_rootfs(guest, container_id, rootfs, fallback)
        else:
            files.storages += await self._plug_rootfs(disk_rootfs, root, held)
        await self._share.add(guest, container_id, plan.entries)
        files.storages += [*self._share.storages(container_id), *plan.storages]
        for disk in plan.disks:
            files.storages.append(await self._plug_volume(disk, held))
        for device in wanted:
            files.devices.append(await self._plug_device(device, devices.read_only(spec, device), held))
        for bound in plan.devices:
            device = Device(path=bound.destination, type="b", major=bound.number[0], minor=bound.number[1])
            files.devices.append(await self._plug_device(device, bound.read_only, held))
        return files

    def _plan(self, container_id: str, spec: Spec) -> VolumePlan:
        sources = HostSources(self.rules.kubelet_root).look(host_sources(spec.mounts))
        limits = spec.linux.resources.hugepage_limits if spec.linux.resources else []
        local_root = self._local_root if self.rules.local_empty_dirs else None
        return plan_volumes(
            container_id, spec.mounts, sources, VolumeRules(local_root, self._share.shares_entries, limits)
        )

    async def _plug_rootfs(self, rootfs: DiskRootfs, place: str, held: AsyncExitStack) -> list[agent_pb.Storage]:
        if not rootfs.is_overlay:
            layer = rootfs.layers[0]
            address = await self._plug_layer(layer, held)
            return [_storage(address, layer.fstype, disk_options(layer.fstype, layer.options), place)]
        storages = []
        if rootfs.upper is not None:
            address = await self._plug_layer(rootfs.upper, held)
            storages.append(_storage(address, rootfs.upper.fstype, _upper_options(rootfs.upper), place))
        for layer in rootfs.layers:
            address = await self._plug_layer(layer, held)
            storages.append(_storage(address, layer.fstype, ["ro", _LAYERED, _LOWER], place))
        return storages

    async def _plug_layer(self, layer: Layer, held: AsyncExitStack) -> DiskAddress:
        if layer.make_size:
            images.make_image(layer.source, layer.make_size)
        return await self._disks.hold(layer.source, layer.read_only, "root file system", held)

    async def _plug_volume(self, disk: DiskVolume, held: AsyncExitStack) -> agent_pb.Storage:
        volume = disk.volume
        address = await self._disks.hold(volume.device, volume.read_only, f"direct volume {disk.source}: device", held)
        direct.record(disk.source, self._sandbox_id)
        held.callback(partial(direct.forget, disk.source, self._sandbox_id))
        storage = _storage(address, volume.fstype, disk_options(volume.fstype, volume.options), disk.mount_point)
        if volume.fs_group is not None:
            policies = types_pb.FsGroupChangePolicy
            policy = policies.OnRootMismatch if volume.on_root_mismatch else policies.Always
            storage.fs_group = agent_pb.FsGroup(group_id=volume.fs_group, group_change_policy=policy)
        return storage

    async def _plug_device(self, device: Device, read_only: bool, held: AsyncExitStack) -> agent_pb.Device:
        path = images.path_of((device.major, device.minor))
        address = await self._disks.hold(path, read_only, f"device {device.path}:", held)
        return agent_pb.Device(
            id=address.text, type=address.driver, vm_path=_vm_path(address), container_path=device.path
        )


def disk_options(fstype: str, options: Sequence[str]) -> list[str]:
    """Mount options for a disk of the guest: snapshots of one XFS carry the same UUID, which it would refuse."""
    chosen = list(options)
    if fstype == "xfs" and "nouuid" not in chosen:
        chosen.append("nouuid")
    return chosen


def _upper_options(layer: Layer) -> list[str]:
    options = [*layer.options, _LAYERED, _UPPER]
    if layer.make_size:
        options.append(_MAKE_FILESYSTEM)
    return options + [_MAKE_DIRECTORY + path for path in layer.directories if path]


def _storage(address: DiskAddress, fstype: str, options: list[str], place: str) -> agent_pb.Storage:
    return agent_pb.Storage(
        driver=address.driver, source=address.text, fstype=fstype, options=options, mount_point=place
    )


def _vm_path(address: DiskAddress) -> str:
    """The node in the guest, where there is no other address."""
    return address.text if address.text.startswith("/dev/") else ""
