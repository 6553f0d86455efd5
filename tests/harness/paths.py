"""Where things are: the project, its build folder, the private installation and the beds."""

from __future__ import annotations

from pathlib import Path

#: The project's root directory.
PROJECT = Path(__file__).resolve().parents[2]

#: Everything that is made here; never committed.
BUILD = PROJECT / "build"

#: The private installation that demo, tests and benchmarks run (`tools/install.py --link`).
PREFIX = BUILD / "prefix"

#: The shim binary of the private installation.
SHIM = PREFIX / "bin" / "containerd-shim-kata-v2"

#: The configuration that goes with the private installation.
CONFIGURATION = PREFIX / "share" / "defaults" / "kata-containers" / "configuration.toml"

#: Image archives, kept from run to run by the hash of what is in them.
IMAGES = BUILD / "images"

#: Parent of all beds.
BEDS = BUILD / "bed"

#: Longest path a UNIX socket of a bed may have: `sun_path` holds 108 bytes, and suffixes are added by containerd.
SOCKET_LIMIT = 100


def socket_path(directory: Path, name: str) -> Path:
    """`directory/name`, checked to fit in a socket address; raises `ValueError` with what to do."""
    path = directory / name
    if len(str(path)) > SOCKET_LIMIT:
        raise ValueError(
            f"{path} is too long for a UNIX socket ({len(str(path))} characters, {SOCKET_LIMIT} fit): "
            "put the project into a directory with a shorter path"
        )
    return path
