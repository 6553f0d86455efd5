"""RPCs on the guest's volumes, swap and plugged memory; see Kata's agent.proto and csi.proto for the messages."""

from __future__ import annotations

import asyncio

from guest.agent import hotplug
from guest.agent.names import absolute_path
from guest.agent.rpc_base import AgentRpcs
from protos.lean.gen.grpc import (
    AddSwapPathRequest,
    AddSwapRequest,
    MemHotplugByProbeRequest,
    RemoveStaleVirtiofsShareMountsRequest,
    ResizeVolumeRequest,
    UpdateEphemeralMountsRequest,
    VolumeStatsRequest,
    VolumeStatsResponse,
)
from protos.lean.gen.wellknown import Empty


class StorageRpcs(AgentRpcs):
    """Volumes, swap, memory by probe. What they need is imported when it is asked for, which most pods never do."""

    async def get_volume_stats(self, message: VolumeStatsRequest) -> VolumeStatsResponse:
        """How full a volume is."""
        from guest.agent.storage import volumes

        return await asyncio.to_thread(volumes.usage, self.agent.layout, message.volume_guest_path)

    async def resize_volume(self, message: ResizeVolumeRequest) -> Empty:
        """Grow a volume's file system, after the host has grown its disk."""
        from guest.agent.storage import growth

        await self.agent.work.finish(growth.resize_volume(self.agent.devices, message.volume_guest_path, message.size))
        return Empty()

    async def update_ephemeral_mounts(self, message: UpdateEphemeralMountsRequest) -> Empty:
        """Give storages in the guest's memory new sizes."""
        from guest.agent.storage import volumes

        for storage in message.storages:
            volumes.resize_memory(self.agent.storages, storage, self.agent.layout)
        return Empty()

    async def remove_stale_virtiofs_share_mounts(self, message: RemoveStaleVirtiofsShareMountsRequest) -> Empty:
        """Let go of what the host has unmounted in its share."""
        from guest.agent.storage import volumes

        await asyncio.to_thread(volumes.refresh_shares, self.agent.layout)
        return Empty()

    async def add_swap(self, message: AddSwapRequest) -> Empty:
        """Swap to a disk by its PCI path."""
        from guest.agent.devices.addresses import PciPath

        await self._swap_to_disk(str(PciPath.of_slots(message.pci_path)))
        return Empty()

    async def add_swap_path(self, message: AddSwapPathRequest) -> Empty:
        """Swap to a disk by its node, or to a file in Kata's tree."""
        from guest.agent.storage import volumes

        path = absolute_path(message.path, "swap path")
        if path.startswith("/dev/"):
            await self._swap_to_disk(path)
        else:
            await asyncio.to_thread(volumes.add_swap_file, self.agent.layout, path)
        return Empty()

    async def mem_hotplug_by_probe(self, message: MemHotplugByProbeRequest) -> Empty:
        """Have the kernel look for memory at addresses, where it learns of it no other way."""
        hotplug.probe_memory(self.agent.layout.sys, message.mem_hotplug_probe_addr)
        return Empty()

    async def _swap_to_disk(self, address: str) -> None:
        from guest.agent.storage import volumes

        disk = await self.agent.devices.block("blk", address)
        await asyncio.to_thread(volumes.swap_on, disk.path, disk.path)
