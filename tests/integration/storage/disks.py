"""Image files with file systems in them, made from directories."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from protos.gen.containerd.types import Mount
from tests.harness.command import run

_MIB = 1 << 20


def ext4(path: Path, tree: Path | None = None, mib: int = 32) -> Path:
    """An image with ext4, and in it a copy of `tree`."""
    _sparse(path, mib)
    run("mkfs.ext4", "-q", "-F", *(("-d", str(tree)) if tree else ()), str(path)).check()
    return path


def xfs(path: Path, mib: int = 320) -> Path:
    """An image with an empty XFS, which needs 300 MiB (of which the image has few)."""
    _sparse(path, mib)
    run("mkfs.xfs", "-q", "-f", str(path)).check()
    return path


def erofs(path: Path, tree: Path) -> Path:
    """An image with `tree` in erofs."""
    run("mkfs.erofs", "--quiet", str(path), str(tree)).check()
    return path


def loop_mount(fstype: str, image: Path, *options: str) -> Mount:
    """How containerd's snapshotters give an image file."""
    return Mount(type=fstype, source=str(image), options=["loop", *options])


def _sparse(path: Path, mib: int) -> None:
    with path.open("wb") as file:
        file.truncate(mib * _MIB)


@contextmanager
def loop_device(image: Path) -> Iterator[Path]:
    """A block device of the host that shows an image, detached at the end; its users must be gone then."""
    device = Path(run("losetup", "--find", "--show", str(image)).check().text.strip())
    try:
        yield device
    finally:
        run("losetup", "--detach", str(device)).check()


@contextmanager
def mounted(source: Path | str, place: Path, *options: str) -> Iterator[None]:
    """A mount on the host; `options` are mount(8)'s."""
    place.mkdir(exist_ok=True)
    run("mount", *options, str(source), str(place)).check()
    try:
        yield
    finally:
        # virtiofsd keeps what a guest has looked at open for a while.
        run("umount", "--lazy", str(place)).check()
