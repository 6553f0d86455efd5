"""Whether the files a configuration names are there: asked when a VM is about to start, not when the file
is read.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from config.errors import ConfigError
from config.loader import Config

_SECTION = "hypervisor.qemu"
_FILES = ("kernel", "image", "initrd")


def check_paths(config: Config) -> None:
    """Raise `ConfigError` for the first file that a VM needs and that is missing, of the wrong kind, or
    unusable.

    Programs must be executable, guest files regular (the image may be a block device) and readable, and the
    entropy source a device or a file that can be read. It touches the disk a dozen times and reads nothing.
    """
    daemon = ("virtio_fs_daemon",) if config.hypervisor.shared_fs == "virtio-fs" else ()
    for name in ("path", *daemon):
        _check(config, name, (stat.S_IFREG,), os.X_OK, "an executable file")
    for name in _FILES:
        kinds = (stat.S_IFREG, stat.S_IFBLK) if name == "image" else (stat.S_IFREG,)
        _check(config, name, kinds, os.R_OK, "a readable file")
    _check(config, "entropy_source", (stat.S_IFCHR, stat.S_IFREG), os.R_OK, "a readable device or file")


def _check(config: Config, name: str, kinds: tuple[int, ...], access: int, wanted: str) -> None:
    path: Path | None = getattr(config.hypervisor, name)
    if path is None:
        return
    try:
        usable = stat.S_IFMT(path.stat().st_mode) in kinds and os.access(path, access)
    except OSError as failed:
        raise _error(config, name, f"{path}: {failed.strerror}") from failed
    if not usable:
        raise _error(config, name, f"{path} is not {wanted}")


def _error(config: Config, name: str, message: str) -> ConfigError:
    origin = config.origins.get((_SECTION, name))
    key = f"[{_SECTION}] {name}" if origin else f"[{_SECTION}] {name} (its default, not set in {config.source})"
    return ConfigError(f"{key}: {message}", where=origin or "")
