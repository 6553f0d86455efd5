"""No shared file system: everything is copied into the guest, over the agent's connection, before a container starts.

For guests that must not reach the host's files, with small root file systems. ConfigMaps and Secrets are followed; of
everything else the guest has what there was when the container was made, and what it writes stays in the guest.
"""

from __future__ import annotations

import logging
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hypervisor.vm import OnSpawn
from protos.gen import grpc as agent_pb
from sandbox import guest_paths
from sandbox.errors import UnimplementedError
from sandbox.interface import Mount
from sandbox.sharing.directory import SharedDirectory, resolved
from sandbox.sharing.following import Follower
from sandbox.sharing.sending import send_tree
from sandbox.sharing.share import Guest, Share, SharingPlan
from sandbox.sharing.tree import Tree
from sandbox.sharing.versioned import VersionedVolume, is_versioned
from sandbox.volumes import ShareEntry

#: The driver of directories that live in the guest: they go with the container, whatever is in them.
DRIVER = "local"

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class CopyPlan(SharingPlan):
    """Nothing for the VM. `shared_dir` is where root file systems are mounted to be copied."""

    shared_dir: Path

    @property
    def device(self) -> None:
        """None."""
        return

    @property
    def sandbox_storages(self) -> list[agent_pb.Storage]:
        """Memory for what is copied, apart from the guest's own, and without the `nosuid` and `nodev` of its /run."""
        place = guest_paths.SHARED + "/"
        return [
            agent_pb.Storage(
                driver="ephemeral", source="tmpfs", fstype="tmpfs", options=["mode=0755"], mount_point=place
            )
        ]

    @property
    def guest_needs(self) -> str:
        """An agent with CopyFile."""
        return 'shared_fs = "none" needs an agent with CopyFile and local storage'

    @property
    def drivers(self) -> frozenset[str]:
        """Those of the containers' storages too."""
        return super().drivers | {DRIVER}

    def make(self, on_spawn: OnSpawn) -> Share:
        """The share; it has no process."""
        return CopyShare(SharedDirectory(self.shared_dir))


class CopyShare(Share):
    """Copies in the guest, and what has to be known of them."""

    shares_entries = False

    def __init__(self, directory: SharedDirectory) -> None:
        self._directory = directory
        self._follower = Follower()
        #: By container, the modes of the directories that were copied, by their place in the guest.
        self._copied: dict[str, dict[str, int]] = {}

    async def start(self, timeout: float) -> None:
        """Make the directory where root file systems are mounted."""
        self._directory.prepare()

    async def add_rootfs(self, guest: Guest, container_id: str, rootfs: Sequence[Mount], fallback: Path) -> None:
        """Mount it for as long as it is being copied."""
        self._directory.add_rootfs(container_id, rootfs, fallback)
        try:
            tree = Tree(self._directory.path / container_id / "rootfs")
            await send_tree(guest, tree, guest_paths.rootfs(container_id))
        finally:
            await self._directory.remove(container_id)
        self._note(container_id, guest_paths.container(container_id), 0o755)
        _tell("the root file system", container_id, tree)

    async def add(self, guest: Guest, container_id: str, entries: Sequence[ShareEntry]) -> None:
        """Copy them; follow those that are made to be changed."""
        once: list[str] = []
        for entry in entries:
            if entry.follows_mounts:
                raise UnimplementedError(
                    f"mount source {entry.source}: what the host mounts there later can't follow into a copy (mount "
                    'propagation HostToContainer with shared_fs = "none")'
                )
            real, mode = resolved(entry.source)
            source = Path(real)
            target = guest_paths.shared(entry.name)
            if stat.S_ISDIR(mode):
                self._note(container_id, target, stat.S_IMODE(mode))
            if is_versioned(source):
                volume = VersionedVolume(source, target)
                self._follower.add(container_id, volume)
                await volume.send(guest)
                continue
            tree = Tree(source, recursive=entry.recursive)
            await send_tree(guest, tree, target)
            _tell(entry.source, container_id, tree)
            once.append(entry.source)
        if once:
            _log.info(
                "container %s has copies, which do not follow changes on the host: %s", container_id, " ".join(once)
            )

    def storages(self, container_id: str) -> list[agent_pb.Storage]:
        """The copied directories as the container's own, so that they go with it."""
        return [
            agent_pb.Storage(
                driver=DRIVER, source=DRIVER, fstype=DRIVER, options=[f"mode={mode:04o}"], mount_point=place
            )
            for place, mode in self._copied.get(container_id, {}).items()
        ]

    async def remove(self, container_id: str) -> None:
        """Forget the container's copies; the guest removes them."""
        self._follower.remove(container_id)
        self._copied.pop(container_id, None)
        await self._directory.remove(container_id)

    async def serve(self, guest: Guest) -> None:
        """Follow the volumes that are made to be changed."""
        await self._follower.run(guest)

    async def close(self, timeout: float) -> None:
        """Follow nothing any more."""
        self._follower.close()
        await self._directory.close()

    def _note(self, container_id: str, place: str, mode: int) -> None:
        self._copied.setdefault(container_id, {})[place] = mode


def _tell(what: str, container_id: str, tree: Tree) -> None:
    if tree.left_out:
        text = ", ".join(f"{reason} ({count})" for reason, count in sorted(tree.left_out.items()))
        _log.warning("%s of container %s was copied into the guest without: %s", what, container_id, text)
