"""The Python code that the image carries beside the standard library: the agent and what it stands on."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from guest.image.errors import BuildError

HOME = "usr/lib/kata-agent"
LAUNCHER = f"{HOME}/init.py"
BUNDLE = f"{HOME}/modules.bundle"
ENTRY = "guest/agent/main.py"

# Relative to the project: files, or directories with all modules below them.
SOURCES = ("guest/__init__.py", "guest/agent", "ttrpc", "protos/__init__.py", "protos/codec.py", "protos/lean")
# What generates protos/lean/gen runs on the developer's machine.
UNWANTED = ("protos/lean/generator",)
# grpclib brings the types of RPC errors and cardinalities; the rest of it needs HTTP/2 and is not used in the guest.
GRPCLIB = ("__init__.py", "const.py", "exceptions.py")
# The policy engine: Python's side of rego-cpp, its library, and the libraries that its wheel brings.
ENGINE = "regopy"
ENGINE_SUFFIXES = (".py", ".so")


def project_root() -> Path:
    """Return the directory in which the packages guest, ttrpc and protos are."""
    return Path(__file__).resolve().parents[2]


def sources(project: Path) -> dict[str, bytes]:
    """Return the agent's files by their path below HOME. Raises BuildError if one of them is missing."""
    found: dict[str, bytes] = {}
    for name in SOURCES:
        found |= _read(project, project / name)
    found |= {f"grpclib/{name}": _bytes(_installed("grpclib") / name) for name in GRPCLIB}
    found |= _engine(_installed(ENGINE))
    if ENTRY not in found:
        raise BuildError(f"{project / ENTRY} is missing: without the agent there is no guest")
    return dict(sorted(found.items()))


def _read(project: Path, path: Path) -> dict[str, bytes]:
    if not path.exists():
        raise BuildError(f"{path} is missing")
    files = sorted(path.rglob("*.py")) if path.is_dir() else [path]
    named = {file.relative_to(project).as_posix(): file for file in files}
    return {name: _bytes(file) for name, file in named.items() if not name.startswith(UNWANTED)}


def _engine(package: Path) -> dict[str, bytes]:
    """Return the files of the engine: its package, and the directory of libraries that its wheel put beside it."""
    own = [path for path in sorted(package.iterdir()) if path.suffix in ENGINE_SUFFIXES]
    brought = sorted((package.parent / f"{ENGINE}.libs").iterdir())
    return {path.relative_to(package.parent).as_posix(): _bytes(path) for path in (*own, *brought)}


def _installed(name: str) -> Path:
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        raise BuildError(f"{name} is not installed here: run the builder in the project's environment")
    return Path(spec.origin).parent


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise BuildError(f"cannot read {path}: {error.strerror}") from error
