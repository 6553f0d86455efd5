"""The places of an installation, and the record of what was put there."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path

#: The name containerd derives from `io.containerd.kata.v2`.
PROGRAM = "containerd-shim-kata-v2"

#: The operator's command.
CONTROL = "kata-ctl"

#: The second place of Kata's search order: the distribution's configuration, below the administrator's in /etc.
DEFAULTS = Path("/usr/share/defaults/kata-containers")


class Layout:
    """The places of one installation. `at` tells where a path is written: below DESTDIR when a package is built."""

    def __init__(self, prefix: Path, destdir: Path | None = None, defaults: Path = DEFAULTS) -> None:
        self.destdir = destdir
        self.library = prefix / "lib" / "kata-shim"
        self.venv = self.library / "venv"
        self.launcher = prefix / "bin" / PROGRAM
        self.control = prefix / "bin" / CONTROL
        self.share = prefix / "share" / "kata-shim"
        self.defaults = defaults
        self.configuration = defaults / "configuration.toml"
        self.configuration_beside = defaults / "configuration-kata-shim.toml"
        self.manifest = self.share / "manifest.json"

    def at(self, path: Path) -> Path:
        """Where `path` is while we install."""
        return self.destdir / path.relative_to("/") if self.destdir else path


def digest(path: Path) -> str:
    """Hash of a file's content, or of a link's target."""
    data = str(path.readlink()).encode() if path.is_symlink() else path.read_bytes()
    return hashlib.sha256(data).hexdigest()


class Manifest:
    """Files (with hashes) and directories that an installation made, kept in the installation itself."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._path = layout.at(layout.manifest)
        recorded = json.loads(self._path.read_text()) if self._path.exists() else {}
        self.files: dict[str, str] = recorded.get("files", {})
        self.directories: list[str] = recorded.get("directories", [])

    def owns(self, path: Path) -> bool:
        """Whether `path` is ours, and as we left it (or gone)."""
        there = self._layout.at(path)
        recorded = self.files.get(str(path))
        return recorded is not None and (not there.exists() or digest(there) == recorded)

    def add(self, path: Path) -> None:
        """Record a file that was just written."""
        self.files[str(path)] = digest(self._layout.at(path))

    def add_tree(self, directory: Path) -> None:
        """Record everything below a directory that is ours alone, and the directories themselves."""
        for parent, directories, files in _walk(self._layout.at(directory)):
            final = directory / parent.relative_to(self._layout.at(directory))
            links = [name for name in directories if (parent / name).is_symlink()]
            for name in (*files, *links):
                self.add(final / name)
            self._add_directory(final)

    def make_parents(self, path: Path) -> None:
        """Make the directories above `path`; record those that were not there."""
        missing = [parent for parent in path.parents if not self._layout.at(parent).exists()]
        for parent in reversed(missing):
            self._layout.at(parent).mkdir()
            self._add_directory(parent)

    def _add_directory(self, path: Path) -> None:
        if str(path) not in self.directories:
            self.directories.append(str(path))

    def write(self) -> None:
        """Keep the record in the installation."""
        self.make_parents(self._layout.manifest)
        self._path.write_text(json.dumps({"files": self.files, "directories": self.directories}, indent=1))

    def remove(self) -> list[Path]:
        """Remove every file that is as we left it, then our directories that are empty; returns what was kept."""
        kept = []
        for name in self.files:
            path = self._layout.at(Path(name))
            if not (path.exists() or path.is_symlink()):
                continue
            if self.owns(Path(name)):
                path.unlink()
            else:
                kept.append(path)
        self._path.unlink(missing_ok=True)
        for name in sorted(self.directories, key=len, reverse=True):
            _remove_if_empty(self._layout.at(Path(name)))
        return kept


def _walk(directory: Path) -> Iterator[tuple[Path, list[str], list[str]]]:
    for parent, directories, files in os.walk(directory):
        yield Path(parent), directories, files


def _remove_if_empty(directory: Path) -> None:
    try:
        directory.rmdir()
    except OSError:
        # Somebody put something of their own there: it is theirs now.
        return
