"""QEMU's option syntax: `-flag head,key=value,key=value` with values escaped, as in qemu(1) and `QemuOpts`.

A comma in a value is doubled; that is the only escape there is. What could not be told apart afterwards is refused:
control characters, among them NUL (ends an argument) and newline (ends a log line).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from hypervisor.errors import HypervisorError

#: What a property may hold; None leaves the property out, booleans are `on` and `off`.
Value = str | int | bool | Path | None


def plain(text: str | Path, what: str = "argument") -> str:
    """`text` as an argument of its own (not part of a key=value list); refuses control characters and emptiness."""
    rendered = str(text)
    if not rendered:
        raise HypervisorError(f"empty QEMU {what}")
    if any(ord(char) < 0x20 or ord(char) == 0x7F for char in rendered):
        raise HypervisorError(f"control character in QEMU {what} {rendered!r}")
    return rendered


def absolute(path: Path, what: str) -> str:
    """`path` as an argument of its own; refuses a relative one, which could be taken for an option."""
    if not path.is_absolute():
        raise HypervisorError(f"{what} {str(path)!r} is not an absolute path")
    return plain(path, what)


def escaped(value: str | int | bool | Path, key: str = "value") -> str:
    """`value` as it stands behind `key=`."""
    if isinstance(value, bool):
        return "on" if value else "off"
    return plain(str(value), key).replace(",", ",,")


def option(flag: str, head: str | None = None, properties: Mapping[str, Value] | None = None) -> list[str]:
    """The two arguments `flag` and `head,key=value,...`; properties in their given order."""
    parts = [] if head is None else [plain(head, flag)]
    parts += [f"{key}={escaped(value, key)}" for key, value in (properties or {}).items() if value is not None]
    return [flag, ",".join(parts)]
