"""Compiles the Python code of an image. The image's own interpreter runs this file, so it imports nothing of ours.

Below the given root, each .py file of the library and of the agent becomes a .pyc beside it (sourceless, and valid
whatever its time stamps are: a read-only image never changes), and all of them go into one bundle, from which the
launcher imports. The same sources give the same bytes.
"""

import importlib.util
import marshal
import sys
from collections.abc import Iterator
from pathlib import Path

_UNCHECKED_HASH = 1
_INIT = "__init__"


def module_name(path: Path) -> tuple[str, bool]:
    """Return a source's module name and whether it is a package, from its path relative to an entry of sys.path."""
    parts = path.with_suffix("").parts
    is_package = parts[-1] == _INIT
    return ".".join(parts[:-1] if is_package else parts), is_package


def pyc(code: bytes, source: bytes) -> bytes:
    """Return a .pyc file of marshalled code that is used without a look at its source (PEP 552)."""
    flags = _UNCHECKED_HASH.to_bytes(4, "little")
    return importlib.util.MAGIC_NUMBER + flags + importlib.util.source_hash(source) + code


def bundle(modules: list[tuple[str, str, bool, bytes]]) -> bytes:
    """Return the bundle of (name, path, is package, marshalled code), as launcher.BundleImporter reads it."""
    index: dict[str, tuple[int, int, str, bool]] = {}
    offset = 0
    for name, path, is_package, code in modules:
        index[name] = (offset, len(code), path, is_package)
        offset += len(code)
    head = marshal.dumps(index)
    return b"".join((len(head).to_bytes(4, "little"), head, *(code for _, _, _, code in modules)))


def compile_tree(root: Path, directory: str) -> Iterator[tuple[str, str, bool, bytes]]:
    """Compile the sources in `directory` below `root`, which is an entry of sys.path in the guest.

    Replaces each source by its .pyc and yields what `bundle` takes. Raises SyntaxError with the file's guest path.
    """
    base = root / directory
    for source_path in sorted(base.rglob("*.py")):
        path = source_path.relative_to(base)
        guest_path = f"/{directory}/{path.as_posix()}"
        source = source_path.read_bytes()
        code = marshal.dumps(compile(source, guest_path, "exec", dont_inherit=True, optimize=0))
        source_path.with_suffix(".pyc").write_bytes(pyc(code, source))
        source_path.unlink()
        yield (*_named(path, guest_path), code)


def _named(path: Path, guest_path: str) -> tuple[str, str, bool]:
    name, is_package = module_name(path)
    return name, guest_path, is_package


def main(arguments: list[str]) -> None:
    """Compile below the root `arguments[0]` the directories `arguments[2:]` into the bundle `arguments[1]`."""
    root, target, *directories = arguments
    modules = [module for directory in directories for module in compile_tree(Path(root), directory)]
    # The interpreter has some modules inside; they are faster there.
    modules = [module for module in modules if not _is_inside(module[0])]
    Path(root, target).write_bytes(bundle(modules))


def _is_inside(name: str) -> bool:
    spec = importlib.util.find_spec(name) if "." not in name or name.startswith("importlib.") else None
    return spec is not None and spec.origin in ("frozen", "built-in")


if __name__ == "__main__":
    main(sys.argv[1:])
