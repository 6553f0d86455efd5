"""Writes the generated trees, `protos/gen` and `protos/lean/gen`, from `protos/src`: a developer's command.

    python -m protos.generate            write them
    python -m protos.generate --check    write nothing; name each stale file and exit with 1 if there is any

The outcome depends on the sources and on the versions of betterproto2-compiler and ruff alone. Needs the `dev` extra.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from protos.lean.generator import modules

PACKAGE = Path(__file__).parent
SOURCES = PACKAGE / "src"

# Relative path below `protos/` -> content.
Tree = dict[Path, str]

# The compiler imports Google's runtime for the sake of one annotation, and keeps it where a message has that name.
_UNWANTED = "from google.protobuf.descriptor import"
# The compiler formats through ruff, which would otherwise take the configuration of whatever folder it runs in.
_RUFF_CONFIGURATION = "line-length = 120\n"


class GenerationError(Exception):
    """protoc or one of its plugins failed; carries its output."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the result is its exit status."""
    parser = argparse.ArgumentParser(prog="python -m protos.generate", description=__doc__.partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="only name stale files")
    check = parser.parse_args(arguments).check
    tree = render()
    stale = stale_files(tree, PACKAGE)
    for path in stale:
        print(f"{'stale' if check else 'written'}: protos/{path}")
    if check:
        return 1 if stale else 0
    write(tree, PACKAGE)
    return 0


def render() -> Tree:
    """Both generated trees as they should be."""
    with tempfile.TemporaryDirectory(prefix="protos-") as folder:
        work = Path(folder)
        (work / "ruff.toml").write_text(_RUFF_CONFIGURATION)
        return {**_rich_tree(work), **_lean_tree(work)}


def stale_files(tree: Tree, package: Path) -> list[Path]:
    """The files that differ from `tree`, are missing, or should not be there."""
    present = {
        p.relative_to(package)
        for folder in _folders(package)
        for p in folder.rglob("*.py*")
        if "__pycache__" not in p.parts
    }
    differing = {path for path, content in tree.items() if path in present and (package / path).read_text() != content}
    return sorted((present - tree.keys()) | (tree.keys() - present) | differing)


def write(tree: Tree, package: Path) -> None:
    """Bring the generated folders in line with `tree`, touching only what differs."""
    for path in stale_files(tree, package):
        target = package / path
        if path not in tree:
            target.unlink()
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(tree[path])


def _folders(package: Path) -> list[Path]:
    return [package / "gen", package / "lean" / "gen"]


def _rich_tree(work: Path) -> Tree:
    out = work / "rich"
    out.mkdir()
    _protoc(
        work,
        f"--python_betterproto2_out={out}",
        "--python_betterproto2_opt=client_generation=async,server_generation=async",
    )
    return {Path("gen") / p.relative_to(out): _without_unwanted(p.read_text()) for p in out.rglob("*.py*")}


def _without_unwanted(text: str) -> str:
    return "".join(line for line in text.splitlines(keepends=True) if not line.startswith(_UNWANTED))


def _lean_tree(work: Path) -> Tree:
    out = work / "descriptors.binpb"
    _protoc(work, f"--descriptor_set_out={out}", "--include_source_info")
    rendered = modules.render(out.read_bytes())
    return {Path("lean/gen") / name: text for name, text in rendered.items()}


def _protoc(work: Path, *options: str) -> None:
    """Run protoc over all sources, with the plugins and tools of this interpreter's environment on the PATH."""
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ.get('PATH', os.defpath)}"}
    sources = sorted(str(p.relative_to(SOURCES)) for p in SOURCES.rglob("*.proto"))
    command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{SOURCES}", *options, *sources]
    done = subprocess.run(command, cwd=work, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise GenerationError(f"protoc exited with status {done.returncode}: {done.stderr.strip()}")


if __name__ == "__main__":
    sys.exit(main())
