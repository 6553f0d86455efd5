"""Where built guests are kept: one directory per set of inputs, and stable links to the current one.

<out>/vmlinux, kata-initrd.img, kata-image.erofs   links into cache/<key>/
<out>/cache/<key>/                                 a complete guest: appears whole, by one rename
<out>/cache/<key>/manifest.json                    its files' sizes and SHA-256, its packages
<out>/locks/<request>.json                         the package versions that the builds use
<out>/apt/                                         apt's private state and the downloaded packages
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from guest.image.errors import BuildError
from guest.image.packages import Lock, Request
from guest.image.progress import note

KERNEL = "vmlinux"
INITRD = "kata-initrd.img"
IMAGE = "kata-image.erofs"
FILES = (KERNEL, INITRD, IMAGE)
MANIFEST = "manifest.json"
_KEPT = 3
_TEMPORARY = ".building-"


class Store:
    """The output directory. All methods that change it must be called inside `locked`."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self.cache = out / "cache"
        self.apt = out / "apt"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the directory for one builder, and wait for another one; its death releases it."""
        try:
            self.cache.mkdir(parents=True, exist_ok=True)
            fd = os.open(self.out / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise BuildError(f"cannot write to {self.out}: {error.strerror}") from error
        try:
            _flock(fd)
            yield
        finally:
            os.close(fd)

    def find(self, key: str) -> Path | None:
        """Return the directory of the guest built from the inputs `key`, if it is there and whole."""
        directory = self.cache / key
        try:
            manifest = json.loads((directory / MANIFEST).read_text())
            sizes = {name: int(entry["size"]) for name, entry in manifest["files"].items()}
            whole = set(sizes) == set(FILES)
            whole = whole and all((directory / name).stat().st_size == size for name, size in sizes.items())
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None
        return directory if whole else None

    @contextmanager
    def workspace(self) -> Iterator[Path]:
        """Give a directory to build in; it is removed with what is left in it, also what a killed builder left."""
        for stale in self.cache.glob(f"{_TEMPORARY}*"):
            shutil.rmtree(stale, ignore_errors=True)
        with tempfile.TemporaryDirectory(prefix=_TEMPORARY, dir=self.cache) as directory:
            yield Path(directory)

    def publish(self, key: str, built: Path, manifest: Mapping[str, Any]) -> Path:
        """Move the finished directory `built` to its place in the cache and return that."""
        files = {name: {"size": (built / name).stat().st_size, "sha256": _sha256(built / name)} for name in FILES}
        text = json.dumps({**manifest, "files": files}, indent=1, sort_keys=True)
        (built / MANIFEST).write_text(text + "\n")
        for path in built.iterdir():
            _sync(path)
        directory = self.cache / key
        shutil.rmtree(directory, ignore_errors=True)
        built.rename(directory)
        return directory

    def select(self, directory: Path) -> None:
        """Point the stable names at `directory`, each in one step, and forget guests not used for longest."""
        for name in FILES:
            target = os.path.relpath(directory / name, self.out)
            link = self.out / name
            if not (link.is_symlink() and os.readlink(link) == target):
                fresh = self.out / f".{name}.new"
                fresh.unlink(missing_ok=True)
                fresh.symlink_to(target)
                fresh.replace(link)
        os.utime(directory)
        self._forget_old()

    def load_lock(self, request: Request) -> Lock | None:
        """Return the package versions resolved for `request`, or None if they must be resolved."""
        try:
            return Lock.from_json(self._lock_path(request).read_text())
        except (OSError, ValueError):
            return None

    def save_lock(self, request: Request, lock: Lock) -> None:
        """Keep the package versions for later builds."""
        path = self._lock_path(request)
        path.parent.mkdir(exist_ok=True)
        fresh = path.with_suffix(".new")
        fresh.write_text(lock.to_json())
        fresh.replace(path)

    def _lock_path(self, request: Request) -> Path:
        return self.out / "locks" / f"{request.digest()}.json"

    def _forget_old(self) -> None:
        guests = [path for path in self.cache.iterdir() if path.is_dir() and not path.name.startswith(".")]
        guests.sort(key=lambda path: path.stat().st_mtime, reverse=True)
        for path in guests[_KEPT:]:
            shutil.rmtree(path, ignore_errors=True)


def _flock(fd: int) -> None:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        note("waiting for another build in the same directory")
        fcntl.flock(fd, fcntl.LOCK_EX)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
