"""What `ps` shows of a process that was forked and runs no program of its own."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Sequence
from pathlib import Path

#: Place of `arg_start` among the fields of /proc/pid/stat that follow the name (proc(5)).
_ARG_START = 45


def rename(arguments: Sequence[str]) -> None:
    """Have `ps` show `arguments` as this process' command line: they are written over its own, as far as that goes.

    (Elsewhere the kernel would take them from only with CAP_SYS_RESOURCE: prctl(2), PR_SET_MM.)
    """
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    start, end = (int(field) for field in fields[_ARG_START : _ARG_START + 2])
    text = b"".join(os.fsencode(argument) + b"\0" for argument in arguments)[: end - start - 1]
    ctypes.memset(start, 0, end - start)
    ctypes.memmove(start, text, len(text))
