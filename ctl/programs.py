"""Programs of this project that a verb hands over to, for their libraries are of no other use here."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from shim.paths import import_roots

#: Isolated, as the daemons of pods are; docstrings are not needed.
_OPTIONS = ("-I", "-S", "-OO", "-c")


def command(module: str, arguments: Sequence[str]) -> list[str]:
    """The command line that calls `main` of `module` with these arguments."""
    text = f"import sys; sys.path[:0] = {import_roots()!r}; from {module} import main; main(sys.argv[1:])"
    return [sys.executable, *_OPTIONS, text, *arguments]


def become(module: str, arguments: Sequence[str]) -> NoReturn:
    """Be that program, in this process."""
    sys.stdout.flush()
    os.execv(sys.executable, command(module, arguments))
