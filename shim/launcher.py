"""The text of the executable that containerd runs.

It is generated when the project is installed, because it names the interpreter and the directory of this project:
looking for them at each start would cost as much as the start itself. `python -m shim.launcher PYTHON ROOT` prints
it.
"""

from __future__ import annotations

import sys

_TEXT = """\
#!{python} -IS
import sys
sys.path.insert(0, {root!r})
from {module} import main
main(sys.argv[1:])
"""


def script(python: str, root: str, module: str = "shim.main") -> str:
    """The script for an interpreter and the directory that holds the package `shim`; both absolute paths.

    It calls `main` of `module`, which gets the arguments.

    Raises `ValueError` for an interpreter that the kernel could not run from a script's first line.
    """
    if not python.startswith("/") or not root.startswith("/"):
        raise ValueError("interpreter and root must be absolute paths")
    if len(python) > 120 or any(char.isspace() for char in python):
        raise ValueError(f"interpreter path {python!r} does not fit in a script's first line")
    return _TEXT.format(python=python, root=root, module=module)


if __name__ == "__main__":
    sys.stdout.write(script(*sys.argv[1:3]))
