"""The key of a guest: a digest of everything that goes into it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from guest.image.packages import Lock

_KEY_LENGTH = 16
_BUILDER_SUFFIXES = (".py", ".sh")


def key(lock: Lock, builder: Mapping[str, bytes], sources: Mapping[str, bytes]) -> str:
    """Return the key of the guest that is built from these packages, by this builder, with these sources.

    `builder` and `sources` map names to contents. Any change of a name, a content or a package's bytes changes it.
    """
    digest = hashlib.sha256()
    for label, files in (("builder", builder), ("source", sources)):
        for name, data in sorted(files.items()):
            _add(digest, label, name, hashlib.sha256(data).hexdigest())
    _add(digest, "kernel", lock.suite, lock.kernel)
    for package in sorted(lock.packages, key=lambda package: package.name):
        _add(digest, package.name, package.version, package.sha256)
    return digest.hexdigest()[:_KEY_LENGTH]


def builder_files() -> dict[str, bytes]:
    """Return the builder's own files."""
    here = Path(__file__).parent
    return {path.name: path.read_bytes() for path in sorted(here.iterdir()) if path.suffix in _BUILDER_SUFFIXES}


def _add(digest: hashlib._Hash, *fields: str) -> None:
    for field in fields:
        data = field.encode()
        digest.update(len(data).to_bytes(4, "little") + data)
