"""What becomes of a container's mounts: pure.

A bind mount is shown to the guest as an entry of the shared directory (Kata's layout and names), so the guest's spec
binds from there; a volume that has better places than that is a disk of the guest, its memory, or a directory of its
own. File systems that have a meaning of their own in the guest stay what they are.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from protos.gen import grpc as agent_pb
from sandbox import guest_paths
from sandbox.digest import sha256_hex
from sandbox.errors import InvalidArgumentError, UnimplementedError
from sandbox.oci import HugepageLimit, SpecMount
from sandbox.storage import memory
from sandbox.storage.direct import DirectVolume
from sandbox.storage.sources import Kind, Source

_BIND_OPTIONS = frozenset({"bind", "rbind"})
#: Trees that the guest has of its own: a bind from them means the guest's.
_GUEST_OWN = ("/dev", "/proc", "/sys")
_READ_ONLY = frozenset({"ro", "rro"})
_NOTHING = Source(Kind.MISSING)


@dataclass(frozen=True)
class ShareEntry:
    """A host path to be bound into the shared directory as `name`."""

    name: str
    source: str
    attributes: tuple[str, ...]
    recursive: bool
    #: Whether what the host mounts below the source later has to appear (mount propagation `slave`).
    follows_mounts: bool = False


@dataclass(frozen=True)
class DiskVolume:
    """A file system on a disk, which the guest mounts at `mount_point`; `source` is the volume's path on the host."""

    source: str
    volume: DirectVolume
    mount_point: str


@dataclass(frozen=True)
class BoundDevice:
    """A host block device that a mount shows at `destination`."""

    destination: str
    number: tuple[int, int]
    read_only: bool


@dataclass(frozen=True)
class VolumePlan:
    """The container's mounts as the guest is to make them, and what has to be there for that."""

    mounts: tuple[SpecMount, ...]
    entries: tuple[ShareEntry, ...]
    storages: tuple[agent_pb.Storage, ...] = ()
    disks: tuple[DiskVolume, ...] = ()
    devices: tuple[BoundDevice, ...] = ()


@dataclass(frozen=True)
class VolumeRules:
    """What a plan depends on besides the mounts: how emptyDirs on disk are made, and which huge pages there may be.

    `local_root` is where the guest makes directories of its own; None keeps them on the host. `one_entry` says that
    containers with the same volume have one share entry for it.
    """

    local_root: str | None = None
    one_entry: bool = False
    hugepage_limits: Sequence[HugepageLimit] = ()


@dataclass
class _Draft:
    """A plan in the making."""

    container_id: str
    rules: VolumeRules
    mounts: list[SpecMount] = field(default_factory=list)
    entries: list[ShareEntry] = field(default_factory=list)
    storages: list[agent_pb.Storage] = field(default_factory=list)
    disks: list[DiskVolume] = field(default_factory=list)
    devices: list[BoundDevice] = field(default_factory=list)

    def add(self, item: SpecMount, source: Source) -> None:
        """Plan for one mount; `source` is what the host has there."""
        if not item.destination.startswith("/"):
            raise InvalidArgumentError(f"mount destination {item.destination!r} is not an absolute path")
        if not is_bind(item):
            self.mounts.append(item)
        elif item.destination == "/dev/shm":
            self._bind(item, guest_paths.SANDBOX_SHM)
        elif source.kind is Kind.BLOCK:
            read_only = not _READ_ONLY.isdisjoint(item.options)
            self.devices.append(BoundDevice(item.destination, source.number, read_only))
        elif _is_guest_own(item.source) and source.kind is not Kind.FILE:
            self._bind(item, item.source)
        elif source.direct is not None:
            self._add_disk(item, source.direct)
        elif not self._in_guest(item, source):
            self._share(item, source)

    def _bind(self, item: SpecMount, source: str) -> None:
        self.mounts.append(_with_source(item, source))

    def _add_disk(self, item: SpecMount, volume: DirectVolume) -> None:
        name = base64.urlsafe_b64encode(item.source.encode(errors="surrogateescape")).decode()
        disk = DiskVolume(item.source, volume, guest_paths.storage(name))
        if disk not in self.disks:
            self.disks.append(disk)
        self._bind(item, disk.mount_point)

    def _in_guest(self, item: SpecMount, source: Source) -> bool:
        """Whether the source is an emptyDir that the guest makes for itself; then it is planned."""
        storages, place = memory.empty_dir_storages(source, self.rules.local_root, self.rules.hugepage_limits)
        if not storages:
            return False
        self.storages += [storage for storage in storages if storage not in self.storages]
        self._bind(item, place)
        return True

    def _share(self, item: SpecMount, source: Source) -> None:
        if not {"shared", "rshared"}.isdisjoint(item.options):
            raise UnimplementedError(
                f"mount {item.destination}: what a container mounts can't appear on the host (mount propagation "
                "Bidirectional): it is mounted in the pod's VM"
            )
        entry = self._entry(item, source)
        self.entries.append(entry)
        self._bind(item, guest_paths.shared(entry.name))

    def _entry(self, item: SpecMount, source: Source) -> ShareEntry:
        """The share entry of a mount, named after what it is for the container, or what it shows.

        The file behind the path counts too: a volume that was made anew is another one.
        """
        attributes = () if _READ_ONLY.isdisjoint(item.options) else ("ro",)
        recursive = "bind" not in item.options
        if self.rules.one_entry:
            key, owner = repr((item.source, source.identity, attributes, recursive)), "volume"
        else:
            key, owner = item.destination, self.container_id
        digest = sha256_hex(key.encode(errors="surrogateescape"))[:16]
        base = PurePosixPath(item.destination).name or "root"
        follows = not {"slave", "rslave"}.isdisjoint(item.options)
        name = f"{owner}-{digest}" + ("" if self.rules.one_entry else f"-{base[:64]}")
        return ShareEntry(name, item.source, attributes, recursive, follows)


def plan_volumes(
    container_id: str,
    mounts: Sequence[SpecMount],
    sources: Mapping[str, Source] | None = None,
    rules: VolumeRules | None = None,
) -> VolumePlan:
    """Turn a container's mounts into guest mounts, and what they need; `sources` is what the host has, by path.

    Raises `InvalidArgumentError` for a destination that is not absolute and for huge pages without a size,
    `UnimplementedError` for mount propagation that can't hold.
    """
    draft = _Draft(container_id, rules or VolumeRules())
    for item in mounts:
        draft.add(item, (sources or {}).get(item.source, _NOTHING))
    return VolumePlan(
        tuple(draft.mounts), tuple(draft.entries), tuple(draft.storages), tuple(draft.disks), tuple(draft.devices)
    )


def host_sources(mounts: Sequence[SpecMount]) -> list[str]:
    """The paths of the host that a plan depends on."""
    return list(dict.fromkeys(item.source for item in mounts if is_bind(item) and item.destination != "/dev/shm"))


def is_bind(item: SpecMount) -> bool:
    """Whether a mount shows an existing path: by its type or, as runc allows, by an option."""
    return item.type == "bind" or not _BIND_OPTIONS.isdisjoint(item.options)


def _is_guest_own(source: str) -> bool:
    path = PurePosixPath(source)
    return any(path.is_relative_to(tree) for tree in _GUEST_OWN)


def _with_source(item: SpecMount, source: str) -> SpecMount:
    options = item.options if not _BIND_OPTIONS.isdisjoint(item.options) else ["rbind", *item.options]
    return SpecMount(destination=item.destination, type="bind", source=source, options=options)
