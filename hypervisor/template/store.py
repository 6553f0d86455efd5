"""The templates of one node: on tmpfs, private to root, one directory each, named by its key.

    <root>/lock              held (flock) by whoever builds, whichever template
    <root>/<key>/            memory, state, manifest.json: complete, or not there
    <root>/new/              being built; without a holder of the lock, what a dead builder left
    <root>/<key>.failed      a build that failed a short while ago
    <root>/*.gone            on its way out

A template appears by a rename and is never written to again, so whoever has opened its files may use them whatever
becomes of the directory. A file system in memory is a must: the guest's memory is mapped from there.
"""

from __future__ import annotations

import errno
import fcntl
import json
import logging
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hypervisor.errors import HypervisorError
from hypervisor.template.place import LOCK, is_private

GONE = ".gone"
MEMORY, STATE, MANIFEST, NEW = "memory", "state", "manifest.json", "new"
#: Most templates at a time; the oldest goes when another is built.
MOST = 4
#: Seconds until a build that failed is tried again.
RETRY_AFTER = 600.0
#: A state is some 400 KB.
STATE_LIMIT = 64 << 20
_MANIFEST_LIMIT = 64 << 10
#: Raised with every change in what is saved, or in how it is restored.
FORMAT = 2
#: Hexadecimal digits of a key.
KEY_LENGTH = 32
#: What is wrong with this process, or the host, and not with a template.
_OURS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})
_KEY = re.compile(rf"[0-9a-f]{{{KEY_LENGTH}}}")

_log = logging.getLogger(__name__)


@dataclass
class Template:
    """A template that was found good, with its files open; `close` when the clone is up."""

    key: str
    memory: int
    state: int
    #: What the guest said of itself, encoded as its builder chose: any clone would say the same.
    guest: bytes = b""

    def close(self) -> None:
        """Close the files; idempotent."""
        for fd in (self.memory, self.state):
            if fd >= 0:
                os.close(fd)
        self.memory = self.state = -1


class TemplateStore:
    """The store at `root`. `digest` is that of the state; templates older than `max_age` seconds are not used."""

    def __init__(self, root: Path, digest: Callable[[bytes], str], max_age: float) -> None:
        self.root = root
        self._digest = digest
        self._max_age = max_age

    def open(self, key: str) -> Template | None:
        """The template, verified; None if there is none, or this process has no room for another file.

        A broken or old one is dropped, with one line in the log.
        """
        place = self.root / key
        if not place.is_dir():
            return None
        template = Template(key, -1, -1)
        try:
            self._check_private()
            template.memory = os.open(place / MEMORY, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
            template.state = os.open(place / STATE, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
            manifest = _read_manifest(place)
            self._verify(template, manifest)
            template.guest = bytes.fromhex(manifest["guest"])
        except (OSError, ValueError, TypeError, HypervisorError) as error:
            template.close()
            if isinstance(error, OSError) and error.errno in _OURS:
                _log.warning("template %s can't be opened now: %s", key[:12], error.strerror)
            else:
                self.drop(key, str(error))
            return None
        return template

    def drop(self, key: str, why: str) -> None:
        """Remove a template that is of no use; those who have opened it go on. Idempotent."""
        _log.warning("template %s is dropped: %s", key[:12], why)
        self._remove(self.root / key)

    @contextmanager
    def building(self, key: str) -> Iterator[Path | None]:
        """An empty directory to build the template in; None if it is there, or is not to be built now.

        The body publishes it (`publish`), or else it is gone at the end. Raises `HypervisorError` where the store can't
        be.
        """
        with self._locked() as is_ours:
            place = self.root / NEW
            if not is_ours or (self.root / key).exists() or self._failed_lately(key):
                yield None
                return
            self._sweep()
            place.mkdir(mode=0o700)
            try:
                yield place
            finally:
                self._remove(place)

    def publish(self, key: str, guest: bytes = b"", vm: Mapping[str, Any] | None = None) -> None:
        """Make what was built in `building` the template: its files are complete, and nobody has them open any more.

        `guest` is for its clones (`Template.guest`), `vm` for people (`listing`).
        """
        place = self.root / NEW
        with (place / STATE).open("rb") as file:
            digest = self._digest(file.read())
        about = {
            "format": FORMAT,
            "created": time.time(),
            "memory": _version(os.stat(place / MEMORY)),
            "state": digest,
            "guest": guest.hex(),
            "vm": dict(vm or {}),
        }
        (place / MANIFEST).write_text(json.dumps(about))
        place.rename(self.root / key)

    def mark_failed(self, key: str) -> None:
        """Have nobody try to build it again for `RETRY_AFTER` seconds."""
        (self.root / f"{key}.failed").touch()

    def remove(self, keys: Iterable[str]) -> None:
        """Remove these templates, and what keeps them from being built. Raises `HypervisorError` for a bad store."""
        if not self.root.is_dir():
            return
        self._check_private()
        for key in keys:
            self._remove(self.root / key)
            self._remove(self.root / f"{key}.failed")

    def retry(self, key: str) -> None:
        """Forget that it could not be built a short while ago. Idempotent."""
        self._remove(self.root / f"{key}.failed")

    def sweep(self) -> None:
        """Remove templates that are old, and what dead builders left, unless somebody builds; never raises."""
        try:
            if self.root.is_dir():
                with self._locked() as is_ours:
                    if is_ours:
                        self._sweep(MOST + 1)
        except (OSError, HypervisorError) as error:
            _log.warning("old templates stay: %s", error)

    def _sweep(self, most: int = MOST) -> None:
        """With the lock: also make room, so that there are fewer than `most`."""
        ages: list[tuple[float, Path]] = []
        for entry in list(self.root.iterdir()):
            if _KEY.fullmatch(entry.name):
                ages.append((_age(entry), entry))
            elif entry.name == NEW or entry.suffix == GONE or (entry.suffix == ".failed" and _age(entry) > RETRY_AFTER):
                self._remove(entry)
        ages.sort()
        for number, (age, entry) in enumerate(ages, 1):
            if age > self._max_age or number >= most:
                _log.info("template %s is removed: it is %.0f s old", entry.name[:12], age)
                self._remove(entry)

    def _failed_lately(self, key: str) -> bool:
        mark = self.root / f"{key}.failed"
        return mark.exists() and _age(mark) < RETRY_AFTER

    @contextmanager
    def _locked(self) -> Iterator[bool]:
        """Hold the builders' lock, if it is free; it goes with the process."""
        try:
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._check_private()
            lock = os.open(self.root / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise HypervisorError(f"template store {self.root}: {error.strerror}") from error
        try:
            yield _lock(lock)
        finally:
            os.close(lock)

    def _check_private(self) -> None:
        """Whoever may write here owns every clone."""
        if not is_private(self.root):
            raise HypervisorError(f"template store {self.root} is not a directory that is its owner's alone")

    def _verify(self, template: Template, manifest: dict[str, Any]) -> None:
        if manifest["format"] != FORMAT:
            raise HypervisorError(f"it is of format {manifest['format']}, and this runtime's is {FORMAT}")
        if (age := time.time() - float(manifest["created"])) > self._max_age:
            raise HypervisorError(f"it is {age:.0f} s old (template_max_age)")
        if manifest["memory"] != _version(os.fstat(template.memory)):
            raise HypervisorError("its memory has changed since it was saved")
        size = os.fstat(template.state).st_size
        if size > STATE_LIMIT or self._digest(os.pread(template.state, size, 0)) != manifest["state"]:
            raise HypervisorError("its state is not what was saved")

    def _remove(self, path: Path) -> None:
        """By another name first, so that nobody sees half of it."""
        import secrets
        import shutil

        if not path.is_dir():
            path.unlink(missing_ok=True)
            return
        gone = path.with_name(f"{path.name}-{secrets.token_hex(4)}{GONE}")
        try:
            path.rename(gone)
        except FileNotFoundError:
            # Somebody else removes it.
            return
        shutil.rmtree(gone, ignore_errors=True)


def _lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _read_manifest(place: Path) -> dict[str, Any]:
    with (place / MANIFEST).open("rb") as file:
        manifest = json.loads(file.read(_MANIFEST_LIMIT))
    if not isinstance(manifest, dict) or not manifest.keys() >= {"format", "created", "memory", "state", "guest", "vm"}:
        raise HypervisorError("its manifest is not one")
    return manifest


def _version(about: os.stat_result) -> list[int]:
    """What tells that a file was written to, or is another one. Its blocks do not: reading a hole may fill it."""
    return [about.st_ino, about.st_size, about.st_mtime_ns]


def _age(path: Path) -> float:
    try:
        return time.time() - path.stat().st_mtime
    except OSError:
        return 0.0
