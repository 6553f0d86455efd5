"""Which file is the configuration: Kata's search order.

An explicit path (containerd's `ConfigPath`, or `KATA_CONF_FILE` as the caller allows it) is taken as it is.
Else the first of `SEARCH_ORDER` that exists, where a dangling symlink exists: it is reported, not passed
over.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from config.errors import ConfigError

#: The administrator's file, then the distribution's.
SEARCH_ORDER = (
    Path("/etc/kata-containers/configuration.toml"),
    Path("/usr/share/defaults/kata-containers/configuration.toml"),
)


def find(explicit: Path | None = None, order: Sequence[Path] = SEARCH_ORDER) -> Path:
    """The file to read, symlinks resolved (drop-ins lie next to the real file); raises `ConfigError`."""
    chosen = explicit or next(filter(os.path.lexists, order), None)
    if chosen is None:
        raise ConfigError(f"no configuration file: there is neither {' nor '.join(map(str, order))}")
    if not chosen.is_absolute():
        raise ConfigError("the path of a configuration file must be absolute", where=chosen)
    try:
        return chosen.resolve(strict=True)
    except FileNotFoundError as failed:
        missing = "does not exist" if not chosen.is_symlink() else "is a symlink to nothing"
        raise ConfigError(f"configuration file {missing}", where=chosen) from failed
    except (OSError, RuntimeError) as failed:
        raise ConfigError(f"configuration file can't be reached: {failed}", where=chosen) from failed
