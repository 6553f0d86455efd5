"""The guest's first Python code: process 1 runs this file as `python3 -I -S -B -X utf8 /usr/lib/kata-agent/init.py`.

It gives the interpreter its path and one finder that takes modules out of a single file, and calls the agent. Under
TCG the usual search costs about as much as running the modules: each import asks several directories for several
names. A module that is not in the file is found in the usual way. This file uses nothing but builtin and frozen
modules, so that none of them is searched for.
"""

import gc
import marshal
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec
    from types import CodeType, ModuleType

HOME = "/usr/lib/kata-agent"
BUNDLE = f"{HOME}/modules.bundle"
_LENGTH_SIZE = 4
# An import makes many objects and no garbage: collecting as often as by default costs a tenth of it.
_GC_THRESHOLD = 20_000

# Name -> (offset and size of the marshalled code, path of the source, whether it is a package).
Index = dict[str, tuple[int, int, str, bool]]
_Spec: "type[ModuleSpec]" = type(sys.__spec__)  # importlib.machinery is neither builtin nor frozen


class BundleImporter:
    """Finds and loads the modules in a bundle, which `guest.image.bytecode` writes. Open as long as the process."""

    def __init__(self, path: str) -> None:
        self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        length = int.from_bytes(os.pread(self._fd, _LENGTH_SIZE, 0), "little")
        self._index: Index = marshal.loads(os.pread(self._fd, length, _LENGTH_SIZE))  # noqa: S302 - our own file
        self._start = _LENGTH_SIZE + length

    def find_spec(
        self, name: str, path: "Sequence[str] | None" = None, target: "ModuleType | None" = None
    ) -> "ModuleSpec | None":
        """Return where the module is, or None to let others look (importlib.abc.MetaPathFinder)."""
        entry = self._index.get(name)
        if entry is None:
            return None
        spec = _Spec(name, self, origin=entry[2], is_package=entry[3])  # type: ignore[arg-type]
        spec.has_location = True
        if entry[3]:
            spec.submodule_search_locations = [entry[2].rpartition("/")[0]]
        return spec

    def create_module(self, spec: "ModuleSpec") -> None:
        """Leave the making of the module to the import system (importlib.abc.Loader)."""

    def exec_module(self, module: "ModuleType") -> None:
        """Run the module's code in it (importlib.abc.Loader)."""
        exec(self.get_code(module.__name__), module.__dict__)  # noqa: S102 - that is what an import is

    def get_code(self, name: str) -> "CodeType":
        """Return the module's code; raises ImportError if it is not in the bundle (importlib.abc.InspectLoader)."""
        entry = self._index.get(name)
        if entry is None:
            raise ImportError(f"{name} is not in the bundle", name=name)
        code: CodeType = marshal.loads(os.pread(self._fd, entry[1], self._start + entry[0]))  # noqa: S302
        return code


def main() -> None:
    """Start the agent. If it cannot be imported, the kernel panics, with the reason above it on the console."""
    gc.set_threshold(_GC_THRESHOLD, 10, 10)
    sys.path = [path for path in sys.path if not path.endswith(".zip")]
    sys.path.append(HOME)
    sys.meta_path.insert(0, BundleImporter(BUNDLE))
    from guest.agent.main import main as agent

    agent()


if __name__ == "__main__":
    main()
