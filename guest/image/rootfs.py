"""The root image: the selected tree, compiled, checked by an import of the agent, and packed as erofs.

The image is not compressed: decompression under TCG costs 0.1 s per boot, and guests on one host share the pages of an
uncompressed image in the host's page cache. All owners are root, all times and the UUID are fixed.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from guest.image import application, contents, modules, skeleton, tools, tree
from guest.image.packages import PYTHON

_UUID = "6b617461-0000-4000-8000-696d61676500"
_COMPILE_SECONDS = 120
_PACK_SECONDS = 120

# Imports every module of the agent and the policy engine, so that a missing one fails the build and not the first boot.
_CHECK = """
import importlib, pkgutil, sys
sys.path.append(sys.argv[1])
import guest.agent
for module in pkgutil.walk_packages(guest.agent.__path__, "guest.agent."):
    importlib.import_module(module.name)
import regopy
"""


def kernel_modules(files: Mapping[str, bytes], builtin: frozenset[str], release: str) -> tree.Tree:
    """Return /lib/modules/<release>: what modules.IMAGE_MODULES names, all it needs, and modprobe's index files."""
    known = {module.name: module for module in (modules.parse(path, data) for path, data in files.items())}
    names = [*modules.BOOT_MODULES, *modules.matching(known, modules.IMAGE_MODULES)]
    wanted = modules.load_order(known, (name for name in names if name in known), builtin)
    base = f"usr/lib/modules/{release}"
    out = {f"{base}/{module.path}": tree.file(modules.unsigned(files[module.path])) for module in wanted}
    out[f"{base}/modules.dep"] = tree.file(modules.dep_index(wanted, builtin).encode())
    out[f"{base}/modules.alias"] = tree.file(modules.alias_index(wanted).encode())
    return out


def assemble(packaged: tree.Tree, kernel: tree.Tree, sources: Mapping[str, bytes]) -> tree.Tree:
    """Return the whole tree, with Python still as source. Raises BuildError."""
    launcher = Path(__file__).with_name("launcher.py").read_bytes()
    code = {f"{application.HOME}/{path}": tree.file(data) for path, data in sources.items()}
    return {
        **skeleton.nodes(),
        **contents.select(packaged, code),
        **kernel,
        **code,
        # Not .py while the rest is compiled: python runs this one by its path, from source.
        f"{application.LAUNCHER}": tree.file(launcher),
    }


def compile_python(root: Path) -> None:
    """Compile all Python below `root` with the interpreter that is there, and write the bundle. Raises BuildError."""
    launcher = root / application.LAUNCHER
    source = launcher.read_bytes()
    launcher.unlink()
    script = Path(__file__).with_name("bytecode.py")
    arguments = [str(root), application.BUNDLE, contents.PYTHON_LIBRARY, application.HOME]
    tools.run([*interpreter(root), str(script), *arguments], timeout=_COMPILE_SECONDS, env=_environment(root))
    launcher.write_bytes(source)


def check_imports(root: Path) -> None:
    """Import all of the agent with what is below `root` and nothing else. Raises BuildError."""
    argv = [*interpreter(root), "-c", _CHECK, str(root / application.HOME)]
    tools.run(argv, timeout=_COMPILE_SECONDS, env=_environment(root))


def pack(root: Path, image: Path) -> None:
    """Write the tree below `root` as an erofs image. Raises BuildError."""
    options = ["-T0", f"-U{_UUID}", "--all-root", "-x-1", "--quiet"]
    tools.run(["mkfs.erofs", *options, str(image), str(root)], timeout=_PACK_SECONDS)


def interpreter(root: Path) -> list[str]:
    """Return the command that runs the interpreter below `root` on the host, with its own loader and libraries.

    -B and -S: no writing beside the sources, no site packages of the host.
    """
    libraries = str(root / contents.LIBRARY_DIRECTORY)
    return [str(root / contents.LOADER), "--library-path", libraries, str(root / f"usr/bin/{PYTHON}"), "-S", "-s", "-B"]


def _environment(root: Path) -> dict[str, str]:
    # A fixed hash seed: the order of sets would otherwise show in the bytecode.
    return {"PYTHONHASHSEED": "0", "PYTHONHOME": str(root / "usr"), "PYTHONPATH": "", "PYTHONPYCACHEPREFIX": ""}
