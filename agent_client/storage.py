"""The guest's files, volumes, mounts and swap."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from agent_client import deadlines
from agent_client.call import Caller
from protos.gen import grpc as pb


class Storages:
    """The RPCs of one agent that concern what it stores and mounts."""

    def __init__(self, call: Caller, agent: pb.AgentServiceStub) -> None:
        self._call = call
        self._agent = agent

    async def copy_file(
        self,
        *,
        path: str,
        file_size: int,
        file_mode: int,
        dir_mode: int,
        uid: int,
        gid: int,
        offset: int = 0,
        data: bytes = b"",
        timeout: float | None = deadlines.REQUEST,
    ) -> None:
        """Write one piece of a file, a directory or a symlink (by `file_mode`) below the guest's shared directory.

        A file appears under its name once `file_size` bytes of it have come; `dir_mode` is for parents that are made
        on the way. A piece must leave room in the transport's 4 MiB.
        """
        request = pb.CopyFileRequest(
            path=path,
            file_size=file_size,
            file_mode=file_mode,
            dir_mode=dir_mode,
            uid=uid,
            gid=gid,
            offset=offset,
            data=data,
        )
        await self._call("CopyFile", self._agent.copy_file, request, timeout)

    async def update_ephemeral_mounts(
        self, storages: Iterable[pb.Storage], *, timeout: float | None = deadlines.REQUEST
    ) -> None:
        """Give mounted tmpfs storages the sizes in their options."""
        request = pb.UpdateEphemeralMountsRequest(storages=list(storages))
        await self._call("UpdateEphemeralMounts", self._agent.update_ephemeral_mounts, request, timeout)

    async def remove_stale_virtiofs_share_mounts(self, *, timeout: float | None = deadlines.REQUEST) -> None:
        """Let the guest look anew at its shared directory, so that mounts gone on the host go there too."""
        method = self._agent.remove_stale_virtiofs_share_mounts
        await self._call("RemoveStaleVirtiofsShareMounts", method, pb.RemoveStaleVirtiofsShareMountsRequest(), timeout)

    async def get_volume_stats(
        self, volume_guest_path: str, *, timeout: float | None = deadlines.REQUEST
    ) -> pb.VolumeStatsResponse:
        """Bytes and inodes of a volume mounted in the guest, and its condition."""
        request = pb.VolumeStatsRequest(volume_guest_path=volume_guest_path)
        return await self._call("GetVolumeStats", self._agent.get_volume_stats, request, timeout)

    async def resize_volume(
        self, volume_guest_path: str, size: int, *, timeout: float | None = deadlines.REQUEST
    ) -> None:
        """Grow a volume's file system to `size` bytes; stock Kata agents answer UNIMPLEMENTED."""
        request = pb.ResizeVolumeRequest(volume_guest_path=volume_guest_path, size=size)
        await self._call("ResizeVolume", self._agent.resize_volume, request, timeout)

    async def add_swap(self, pci_path: Sequence[int], *, timeout: float | None = deadlines.REQUEST) -> None:
        """Swap to the block device at `pci_path`: its slot on the root bus, or the bridge's slot and its slot there."""
        request = pb.AddSwapRequest(pci_path=list(pci_path))
        await self._call("AddSwap", self._agent.add_swap, request, timeout)

    async def add_swap_path(self, path: str, *, timeout: float | None = deadlines.REQUEST) -> None:
        """Swap to the file or block device at `path` in the guest."""
        request = pb.AddSwapPathRequest(path=path)
        await self._call("AddSwapPath", self._agent.add_swap_path, request, timeout)
