"""`kata-ctl cache`: hands over to the program of the VM cache, whose libraries this one has no other use for."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from shim.paths import import_roots

#: Isolated, as the daemons of pods are; docstrings are not needed.
_OPTIONS = ("-I", "-S", "-OO", "-c")


def program(arguments: Sequence[str]) -> list[str]:
    """Its command line: `sandbox.cache.main` with these arguments."""
    text = f"import sys; sys.path[:0] = {import_roots()!r}; from sandbox.cache.main import main; main(sys.argv[1:])"
    return [sys.executable, *_OPTIONS, text, *arguments]


def become(action: str, file: Path | None, foreground: bool) -> NoReturn:
    """Be that program: the server's pid is the one that was started, as whoever supervises it expects."""
    arguments = [action, *(["--foreground"] if foreground else []), *(["--file", str(file)] if file else [])]
    sys.stdout.flush()
    os.execv(sys.executable, program(arguments))
