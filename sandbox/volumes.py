"""Which of a container's mounts come from the host, and what the guest mounts instead: pure.

A bind mount is shown to the guest as an entry of the shared directory (Kata's layout and names), so the guest's spec
binds from there. File systems that have a meaning of their own in the guest stay what they are.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from sandbox import guest_paths
from sandbox.errors import InvalidArgumentError
from sandbox.oci import SpecMount

_BIND_OPTIONS = frozenset({"bind", "rbind"})
#: Trees that the guest has of its own: a bind from them means the guest's.
_GUEST_OWN = ("/dev", "/proc", "/sys")


@dataclass(frozen=True)
class ShareEntry:
    """A host path to be bound into the shared directory as `name`."""

    name: str
    source: str
    attributes: tuple[str, ...]
    recursive: bool


@dataclass(frozen=True)
class VolumePlan:
    """The container's mounts as the guest is to make them, and what has to be shared for that."""

    mounts: tuple[SpecMount, ...]
    entries: tuple[ShareEntry, ...]


def plan_volumes(container_id: str, mounts: Sequence[SpecMount]) -> VolumePlan:
    """Turn a container's mounts into guest mounts and share entries.

    Raises `InvalidArgumentError` for a destination that is not absolute.
    """
    guest_mounts: list[SpecMount] = []
    entries: list[ShareEntry] = []
    for item in mounts:
        if not item.destination.startswith("/"):
            raise InvalidArgumentError(f"mount destination {item.destination!r} is not an absolute path")
        if not is_bind(item):
            guest_mounts.append(item)
        elif item.destination == "/dev/shm":
            guest_mounts.append(_with_source(item, guest_paths.SANDBOX_SHM))
        elif _is_guest_own(item.source):
            guest_mounts.append(_with_source(item, item.source))
        else:
            entry = _share_entry(container_id, item)
            entries.append(entry)
            guest_mounts.append(_with_source(item, guest_paths.shared(entry.name)))
    return VolumePlan(tuple(guest_mounts), tuple(entries))


def is_bind(item: SpecMount) -> bool:
    """Whether a mount shows an existing path: by its type or, as runc allows, by an option."""
    return item.type == "bind" or not _BIND_OPTIONS.isdisjoint(item.options)


def _is_guest_own(source: str) -> bool:
    path = PurePosixPath(source)
    return any(path.is_relative_to(tree) for tree in _GUEST_OWN)


def _with_source(item: SpecMount, source: str) -> SpecMount:
    options = item.options if not _BIND_OPTIONS.isdisjoint(item.options) else ["rbind", *item.options]
    return SpecMount(destination=item.destination, type="bind", source=source, options=options)


def _share_entry(container_id: str, item: SpecMount) -> ShareEntry:
    digest = hashlib.sha256(item.destination.encode()).hexdigest()[:16]
    base = PurePosixPath(item.destination).name or "root"
    attributes = ("ro",) if "ro" in item.options else ()
    return ShareEntry(f"{container_id}-{digest}-{base[:64]}", item.source, attributes, "bind" not in item.options)
