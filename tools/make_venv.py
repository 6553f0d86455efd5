"""Makes `build/venv`: Debian's interpreter, the dependencies and the dev extra of pyproject.toml, bytecode compiled.

Run by /usr/bin/python3 with the standard library only. Does nothing if the stamp says that the same was done before.
`--extra NAME` adds a further extra to an environment that is up to date; it has a stamp of its own.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterable
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
VENV = PROJECT / "build" / "venv"

#: Debian's own build: profile-guided, and not the slower shim of a version manager that may be first on the PATH.
PYTHON = "/usr/bin/python3"


def dependencies(pyproject: Path, extras: tuple[str, ...] = ()) -> list[str]:
    """Requirement lines of the project and of its `extras`."""
    project = tomllib.loads(pyproject.read_text())["project"]
    found: list[str] = list(project["dependencies"])
    for extra in extras:
        found.extend(project["optional-dependencies"][extra])
    return found


def stamp_of(requirements: list[str], version: str) -> str:
    """Changes with anything that the environment depends on."""
    return hashlib.sha256(json.dumps([requirements, version]).encode()).hexdigest()


def environment() -> dict[str, str]:
    """Our environment without what would keep bytecode from being written or lead Python elsewhere."""
    return {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}


def make(directory: Path, requirements: list[str], installer: Path | None = None) -> None:
    """Make an environment in `directory` with `requirements`, not yet compiled; raises `CalledProcessError`.

    Without `installer` the environment gets a pip of its own; with one (a Python that has pip) it stays without.
    """
    python = directory / "bin" / "python"
    env = environment()
    without = ["--without-pip"] if installer else []
    subprocess.run([PYTHON, "-I", "-m", "venv", *without, str(directory)], check=True, env=env)
    pip = [str(installer), "-m", "pip", "--python", str(python)] if installer else [str(python), "-m", "pip"]
    options = ["--no-input", "--disable-pip-version-check", "--quiet"]
    subprocess.run([*pip, *options, "install", "--no-compile", *requirements], check=True, env=env)


def compile_trees(python: Path, directories: Iterable[Path], strip: Path | None = None) -> None:
    """Write the bytecode of all modules below `directories`, which names their paths without the leading `strip`.

    Twice: as everything else runs it, and without docstrings, as the daemon does (`shim/spawn.py`).
    """
    stripped = ["-s", str(strip), "-p", "/"] if strip else []
    command = [str(python), "-I", "-m", "compileall", "-q", "-o", "0", "-o", "2", *stripped, *map(str, directories)]
    # Some packages ship test data that is not meant to compile: what is needed is compiled all the same.
    subprocess.run(command, check=False, env=environment(), stdout=subprocess.DEVNULL)


def is_usable(python: Path, version: str) -> bool:
    """Whether `python` is there and is made from the interpreter we want."""
    try:
        done = subprocess.run(
            [str(python), "-IS", "-c", "import sys; print(sys.version)"], capture_output=True, timeout=30
        )
    except OSError:
        return False
    return done.stdout.decode().strip() == version


def add(directory: Path, requirements: list[str]) -> None:
    """Install further `requirements` into an environment that has a pip of its own; raises `CalledProcessError`."""
    pip = [str(directory / "bin" / "python"), "-m", "pip", "--no-input", "--disable-pip-version-check", "--quiet"]
    subprocess.run([*pip, "install", *requirements], check=True, env=environment())


def make_whole(directory: Path, requirements: list[str]) -> None:
    """Make or mend the environment, bytecode and all; raises `CalledProcessError`."""
    if directory.exists() and not is_usable(directory / "bin" / "python", sys.version):
        shutil.rmtree(directory)
    make(directory, requirements)
    compile_trees(directory / "bin" / "python", [directory / "lib"])


def main() -> int:
    """Bring `build/venv` up to date, or with `--check` only tell whether it is; the result is the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="only tell, by the exit status")
    parser.add_argument("--extra", metavar="NAME", help="a further extra, into an environment that is up to date")
    chosen = parser.parse_args()
    # An extra is installed anew with whatever it was installed beside.
    requirements = dependencies(PROJECT / "pyproject.toml", ("dev", *([chosen.extra] if chosen.extra else ())))
    stamp = VENV / (f".stamp-{chosen.extra}" if chosen.extra else ".stamp")
    wanted = stamp_of(requirements, sys.version)
    if stamp.exists() and stamp.read_text() == wanted:
        return 0
    if chosen.check:
        return 1
    try:
        if chosen.extra:
            add(VENV, requirements)
        else:
            make_whole(VENV, requirements)
    except subprocess.CalledProcessError as error:
        print(f"{' '.join(map(str, error.cmd[:4]))} ...: exit status {error.returncode}", file=sys.stderr)
        return 1
    stamp.write_text(wanted)
    return 0


if __name__ == "__main__":
    sys.exit(main())
