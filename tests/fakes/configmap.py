"""A volume of Kubernetes' kind, changed in the way kubelet changes one (pkg/volume/util/atomic_writer.go)."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Mapping
from itertools import count
from pathlib import Path


class ConfigMap:
    """The volume in `directory`, with its first version."""

    def __init__(self, directory: Path, files: Mapping[str, bytes]) -> None:
        self.directory = directory
        self.files: Mapping[str, bytes] = {}
        self._versions = count(1)
        directory.mkdir()
        self.update(files)

    def update(self, files: Mapping[str, bytes]) -> None:
        """The next version: all files at once for whoever reads through the links."""
        data, new = self.directory / "..data", self.directory / "..data_tmp"
        old = os.readlink(data) if data.is_symlink() else None
        version = self.directory / f"..2024_01_01_00_00_00.{next(self._versions):010}"
        version.mkdir()
        for name, content in files.items():
            (version / name).write_bytes(content)
        new.symlink_to(version.name)
        new.rename(data)
        for name in files.keys() - self.files.keys():
            (self.directory / name).symlink_to(f"..data/{name}")
        for name in self.files.keys() - files.keys():
            (self.directory / name).unlink()
        if old is not None:
            shutil.rmtree(self.directory / old)
        self.files = files

    @property
    def digest(self) -> str:
        """What `cat * | md5sum` in it says."""
        return hashlib.md5(b"".join(self.files[name] for name in sorted(self.files))).hexdigest()
