"""`kata-ctl cache`: hands over to the program of the VM cache."""

from __future__ import annotations

from pathlib import Path
from typing import NoReturn

from ctl import programs

#: That program.
MODULE = "sandbox.cache.main"


def become(action: str, file: Path | None, foreground: bool) -> NoReturn:
    """Be it: the server's pid is the one that was started, as whoever supervises it expects."""
    programs.become(
        MODULE, [action, *(["--foreground"] if foreground else []), *(["--file", str(file)] if file else [])]
    )
