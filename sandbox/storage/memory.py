"""emptyDirs that the guest makes for itself: in its memory, of huge pages, or as a directory of its own. Pure.

They live as long as the pod, whichever containers come and go, and all its containers have the same one (Kata's
`shared` storages).
"""

from __future__ import annotations

from collections.abc import Sequence

from protos.gen import grpc as agent_pb
from sandbox import guest_paths
from sandbox.errors import InvalidArgumentError
from sandbox.oci import HugepageLimit
from sandbox.storage.kubernetes import EmptyDir
from sandbox.storage.sources import Memory, Source

_UNITS = {"": 0, "K": 10, "M": 20, "G": 30, "T": 40}


def empty_dir_storages(
    source: Source, local_root: str | None, limits: Sequence[HugepageLimit]
) -> tuple[list[agent_pb.Storage], str]:
    """The storages of an emptyDir, and the place in the guest to bind from; none for what is shared from the host.

    Raises `InvalidArgumentError` for huge pages that the container has no limit for: their number is not known.
    """
    volume = source.empty_dir
    if volume is None:
        return [], ""
    if source.memory is not None:
        root = guest_paths.ephemeral(volume.name)
        storages = [_memory(volume, source.memory, root, limits)]
    elif local_root is not None:
        root = f"{local_root}/{volume.name}"
        storages = [_directory(root, source.mode, source.group)]
    else:
        return [], ""
    if volume.part:
        # What the kubelet has made for it on the host has to be made in the guest too.
        storages.append(_directory(f"{root}/{volume.part}", source.mode, source.group))
    return storages, storages[-1].mount_point


def _memory(volume: EmptyDir, memory: Memory, place: str, limits: Sequence[HugepageLimit]) -> agent_pb.Storage:
    if memory.fstype == "hugetlbfs":
        return _huge_pages(volume, memory, place, limits)
    options = [f"mode={memory.mode:04o}"]
    if memory.size:
        options.append(f"size={memory.size}")
    if memory.group:
        options.append(f"fsgid={memory.group}")
    return agent_pb.Storage(
        driver="ephemeral",
        source=memory.fstype,
        fstype=memory.fstype,
        options=options,
        mount_point=place,
        shared=True,
    )


def _huge_pages(volume: EmptyDir, memory: Memory, place: str, limits: Sequence[HugepageLimit]) -> agent_pb.Storage:
    """Sizes in bytes and options of hugetlbfs alone: Kata's agent reads no units, and mounts with all of them."""
    size = _huge_size(volume, memory, limits)
    return agent_pb.Storage(
        driver="ephemeral",
        source=memory.fstype,
        fstype=memory.fstype,
        options=[f"pagesize={_bytes(memory.page_size)}", f"size={size}", f"mode={memory.mode & 0o1777:04o}"],
        mount_point=place,
        fs_group=agent_pb.FsGroup(group_id=memory.group) if memory.group else None,
        shared=True,
    )


def _directory(place: str, mode: int, group: int) -> agent_pb.Storage:
    options = [f"mode={mode:04o}"]
    if group:
        options.append(f"fsgid={group}")
    return agent_pb.Storage(
        driver="local", source="local", fstype="local", options=options, mount_point=place, shared=True
    )


def _huge_size(volume: EmptyDir, memory: Memory, limits: Sequence[HugepageLimit]) -> int:
    """The container's limit for pages of that size, which Kubernetes makes the volume's; or what it was mounted with.

    The kernel writes a page size as `2M` or `2048K`, the OCI spec as `2MB`.
    """
    wanted = _bytes(memory.page_size)
    for limit in limits:
        if limit.limit > 0 and wanted and _bytes(limit.page_size) == wanted:
            return limit.limit
    if memory.size and wanted:
        return memory.size
    raise InvalidArgumentError(
        f"emptyDir {volume.name}: the container has no limit for huge pages of {memory.page_size or 'that size'}"
    )


def _bytes(text: str) -> int:
    """`2M`, `2MB`, `2Mi`, `2048kB` in bytes; 0 for what is no size."""
    head = text.strip().rstrip("bB").rstrip("i")
    digits = head.rstrip("kKmMgGtT")
    unit = head[len(digits) :].upper()
    return int(digits) << _UNITS[unit] if digits.isdigit() and unit in _UNITS else 0
