"""The host's programs that the builder runs, and the Debian package that brings each of them."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from guest.image.errors import BuildError

DEBIAN_PACKAGES = {
    "apt-cache": "apt",
    "apt-config": "apt",
    "apt-get": "apt",
    "dpkg-deb": "dpkg",
    "lz4": "lz4",
    "mkfs.erofs": "erofs-utils",
}

_SBIN = "/usr/local/sbin:/usr/sbin:/sbin"
_ERROR_CHARS = 300


def find(tool: str) -> str:
    """Return the path of `tool`, also when sbin is not on the user's PATH.

    Raises BuildError that names the Debian package if the tool is not installed.
    """
    path = shutil.which(tool, path=os.pathsep.join((os.environ.get("PATH", os.defpath), _SBIN)))
    if path is None:
        package = DEBIAN_PACKAGES[tool]
        raise BuildError(f"{tool} is missing: install it with `apt-get install {package}`")
    return path


def require_all() -> None:
    """Look for every tool at once, so that one message names all missing packages."""
    missing = set()
    for tool, package in DEBIAN_PACKAGES.items():
        try:
            find(tool)
        except BuildError:
            missing.add(package)
    if missing:
        raise BuildError(f"programs are missing: install them with `apt-get install {' '.join(sorted(missing))}`")


def run(argv: Sequence[str], *, timeout: float, env: Mapping[str, str] | None = None, cwd: Path | None = None) -> bytes:
    """Run one program to its end and return its standard output.

    `argv[0]` is a key of DEBIAN_PACKAGES or an absolute path; `timeout` is in seconds. Raises BuildError with the
    program's last line of standard error if it fails or takes too long.
    """
    program = argv[0] if os.path.isabs(argv[0]) else find(argv[0])
    name = Path(argv[0]).name
    try:
        done = subprocess.run(
            [program, *argv[1:]],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=timeout,
            env={**os.environ, "LC_ALL": "C.UTF-8", **(env or {})},
            cwd=cwd,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise BuildError(f"{name} did not finish within {timeout:.0f} s") from error
    except OSError as error:
        raise BuildError(f"{name} cannot be run: {error.strerror}") from error
    if done.returncode != 0:
        raise BuildError(f"{name} failed with status {done.returncode}: {last_line(done.stderr)}")
    return done.stdout


def last_line(output: bytes) -> str:
    """Return the last line of a program's output that says something, shortened for an error message."""
    lines = [line.strip() for line in output.decode(errors="replace").splitlines() if line.strip()]
    return lines[-1][:_ERROR_CHARS] if lines else "it printed no reason"
