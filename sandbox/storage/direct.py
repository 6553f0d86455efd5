"""Direct volumes: file systems that a CSI driver leaves to the runtime, as Kata's documentation has them.

For the path that the kubelet gives the container the driver writes `mountInfo.json`, into a directory named after that
path (URL-safe base64): the device, its file system and how to mount it. A file there with a sandbox' name tells which
pod has it (docs/design/direct-blk-device-assignment.md of Kata Containers).
"""

from __future__ import annotations

import base64
from contextlib import suppress
from pathlib import Path

import msgspec

from sandbox.errors import InvalidArgumentError, SandboxError, UnimplementedError, one_line
from sandbox.storage.rootfs import DISK_TYPES

#: Where Kata's tools and CSI drivers write; theirs to choose, so the same for all runtimes.
ROOT = Path("/run/kata-containers/shared/direct-volumes")
_FILE = "mountInfo.json"
_MAX_BYTES = 64 << 10
#: What Kata's tools and drivers call a volume that is a block device or an image file.
_BLOCK_TYPES = frozenset({"", "block", "directvol", "rawblock"})
_NAME_LIMIT = 255
LAST_GROUP = 0xFFFFFFFE


class _MountInfo(msgspec.Struct, frozen=True, rename="kebab"):
    """The file; further keys are ignored."""

    device: str
    fstype: str
    volume_type: str = ""
    metadata: dict[str, str] | None = None
    options: list[str] | None = None


class DirectVolume(msgspec.Struct, frozen=True):
    """A file system on `device`, to be mounted in the guest. `fs_group` is who it is given to, if anybody."""

    device: str
    fstype: str
    options: tuple[str, ...] = ()
    fs_group: int | None = None
    #: Whether only a root with another group or mode has all files changed (Kubernetes' OnRootMismatch).
    on_root_mismatch: bool = False

    @property
    def read_only(self) -> bool:
        """Whether nobody writes to it."""
        return "ro" in self.options


def find(source: str) -> DirectVolume | None:
    """The direct volume at a mount's source, if it is one; raises `InvalidArgumentError` for a malformed file."""
    path = _directory(source) / _FILE
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        if len(path.parent.name) > _NAME_LIMIT:
            return None
        raise InvalidArgumentError(f"direct volume {source}: {_FILE}: {error.strerror}") from error
    if len(data) > _MAX_BYTES:
        raise InvalidArgumentError(f"direct volume {source}: {_FILE} is larger than {_MAX_BYTES} bytes")
    return parse(data, source)


def parse(data: bytes, source: str) -> DirectVolume:
    """Read `mountInfo.json`; raises `InvalidArgumentError`, `UnimplementedError` for what is no disk."""
    try:
        info = msgspec.json.decode(data, type=_MountInfo)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidArgumentError(f"direct volume {source}: {_FILE}: {error}") from error
    if info.volume_type not in _BLOCK_TYPES:
        raise UnimplementedError(f"direct volume {source}: volume type {info.volume_type[:40]!r} is not supported")
    if info.fstype not in DISK_TYPES:
        raise InvalidArgumentError(f"direct volume {source}: {_FILE}: file system {info.fstype[:40]!r} is not known")
    if not info.device.startswith("/"):
        raise InvalidArgumentError(
            f"direct volume {source}: {_FILE}: device {info.device[:100]!r} is not an absolute path"
        )
    metadata = info.metadata or {}
    return DirectVolume(
        device=info.device,
        fstype=info.fstype,
        options=tuple(info.options or ()),
        fs_group=_group(metadata.get("fsGroup", ""), source),
        on_root_mismatch=metadata.get("fsGroupChangePolicy") == "OnRootMismatch",
    )


def record(source: str, sandbox_id: str) -> None:
    """Note that this pod has the volume, for those who ask for its statistics by its path; raises `SandboxError`."""
    try:
        (_directory(source) / sandbox_id).touch(mode=0o600)
    except OSError as error:
        raise SandboxError(f"direct volume {source}: {error.strerror}") from error


def forget(source: str, sandbox_id: str) -> None:
    """The pod has it no more; idempotent, also when the driver has removed all of it. Never raises."""
    with suppress(OSError):
        (_directory(source) / sandbox_id).unlink()


def _directory(source: str) -> Path:
    return ROOT / base64.urlsafe_b64encode(source.encode(errors="surrogateescape")).decode()


def _group(text: str, source: str) -> int | None:
    if not text:
        return None
    if not text.isascii() or not text.isdigit() or int(text) > LAST_GROUP:
        raise InvalidArgumentError(
            one_line(f"direct volume {source}: {_FILE}: fsGroup {text[:40]!r} is not a group id")
        )
    return int(text)
