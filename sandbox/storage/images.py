"""Block devices and image files of the host, looked at before QEMU opens them: faults are told in plain words."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from hypervisor.hotplug.disks import DiskImage
from sandbox.errors import FailedPreconditionError, InvalidArgumentError

#: What a disk is, whatever its path: the number of a device, or file system and inode of a file.
Identity = tuple[str, int, int]
_SYS_BLOCK = Path("/sys/dev/block")
_DEV = Path("/dev")


def image(path: str, read_only: bool, what: str) -> tuple[DiskImage, Identity]:
    """The device or image file at `path`, symbolic links resolved; `what` names its use, for errors.

    Raises `InvalidArgumentError` for what is missing or no disk, `FailedPreconditionError` for a device in use.
    """
    real = os.path.realpath(path)
    try:
        status = os.stat(real)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise InvalidArgumentError(f"{what} {path}: {reason}") from error
    if stat.S_ISBLK(status.st_mode):
        if not read_only:
            _check_free(real, f"{what} {path}")
        identity = ("device", os.major(status.st_rdev), os.minor(status.st_rdev))
        return DiskImage(Path(real), True, read_only), identity
    if not stat.S_ISREG(status.st_mode):
        raise InvalidArgumentError(f"{what} {path} is neither a block device nor an image file")
    if not status.st_size:
        raise InvalidArgumentError(f"{what} {path} is empty")
    return DiskImage(Path(real), False, read_only), ("file", status.st_dev, status.st_ino)


def is_device(path: str) -> bool:
    """Whether there is a block device at `path`."""
    try:
        return stat.S_ISBLK(os.stat(path).st_mode)
    except (OSError, ValueError):
        return False


def path_of(number: tuple[int, int]) -> str:
    """The node of a block device, by its name in sysfs; raises `InvalidArgumentError` if the host has none."""
    text = f"{number[0]}:{number[1]}"
    try:
        lines = (_SYS_BLOCK / text / "uevent").read_text(errors="replace").splitlines()
    except OSError as error:
        raise InvalidArgumentError(f"block device {text}: this host has none of that number") from error
    name = next((line.removeprefix("DEVNAME=") for line in lines if line.startswith("DEVNAME=")), "")
    path = _DEV / name
    if not name or not is_node_of(str(path), number):
        raise InvalidArgumentError(f"block device {text}: {path} is not its node")
    return str(path)


def is_node_of(path: str, number: tuple[int, int]) -> bool:
    """Whether the block device at `path` is the one of that number."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return False
    return stat.S_ISBLK(status.st_mode) and (os.major(status.st_rdev), os.minor(status.st_rdev)) == number


def make_image(path: str, size: int) -> None:
    """Make an image file of `size` bytes without blocks, if there is none; raises `InvalidArgumentError`."""
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        return
    except OSError as error:
        raise InvalidArgumentError(f"make image {path}: {error.strerror}") from error
    try:
        os.truncate(fd, size)
    except OSError as error:
        os.unlink(path)
        raise InvalidArgumentError(f"make image {path} of {size} bytes: {error.strerror}") from error
    finally:
        os.close(fd)


def _check_free(path: str, what: str) -> None:
    """An exclusive open fails when the device is mounted, or has another claim on it (open(2), O_EXCL)."""
    try:
        os.close(os.open(path, os.O_RDWR | os.O_EXCL | os.O_NONBLOCK | os.O_CLOEXEC))
    except OSError as error:
        if error.errno == errno.EBUSY:
            raise FailedPreconditionError(f"{what} is in use on this host: it is mounted, or claimed") from error
        if error.errno in (errno.EROFS, errno.EACCES):
            raise FailedPreconditionError(f"{what} can't be written: {error.strerror}; mount it read-only") from error
        raise FailedPreconditionError(f"{what}: {error.strerror}") from error
