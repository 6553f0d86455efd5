"""A kernel of a hundred bytes, so that tests of QEMU need no Linux and take no boot.

A 32-bit ELF with the PVH entry note (Xen's XEN_ELFNOTE_PHYS32_ENTRY), which QEMU boots directly. It writes a text to
the first serial port, then does one thing.
"""

from __future__ import annotations

import struct
from pathlib import Path

LOAD_ADDRESS = 0x100000
_HEADERS = 52 + 2 * 32
_NOTE = struct.pack("<III4sI", 4, 4, 18, b"Xen\0", LOAD_ADDRESS)
_HALT = b"\xfa\xf4\xeb\xfc"  # cli; hlt; jmp to the cli
ACTIONS = {
    "halt": _HALT,
    # q35's reset control register, 0xcf9: mov dx, 0xcf9; mov al, 6; out dx, al
    "restart": b"\x66\xba\xf9\x0c\xb0\x06\xee" + _HALT,
    # ACPI PM1a_CNT at 0x604, SLP_EN: mov dx, 0x604; mov ax, 0x2000; out dx, ax
    "poweroff": b"\x66\xba\x04\x06\x66\xb8\x00\x20\x66\xef" + _HALT,
    # pvpanic's port, 0x505, event "panicked": mov dx, 0x505; mov al, 1; out dx, al
    "panic": b"\x66\xba\x05\x05\xb0\x01\xee" + _HALT,
}


def write_kernel(path: Path, text: bytes = b"", action: str = "halt") -> Path:
    """Write a kernel that prints `text` and then does `action`: one of `ACTIONS`, or `chatter` for endless text."""
    path.write_bytes(_elf(_code(text, action)))
    return path


def _code(text: bytes, action: str) -> bytes:
    tail = b"" if action == "chatter" else ACTIONS[action]
    # mov esi, text; lodsb; test al, al; jz end; mov dx, 0x3f8; out dx, al; jmp to the lodsb
    loop = b"\xac\x84\xc0\x74\x07\x66\xba\xf8\x03\xee\xeb\xf4"
    if action == "chatter":
        tail = b"\xeb" + struct.pack("b", -(5 + len(loop) + 2))
    text_at = LOAD_ADDRESS + 5 + len(loop) + len(tail)
    return b"\xbe" + struct.pack("<I", text_at) + loop + tail + text + b"\0"


def _elf(code: bytes) -> bytes:
    note_at, code_at = _HEADERS, _HEADERS + len(_NOTE)
    ident = b"\x7fELF\x01\x01\x01" + bytes(9)
    header = ident + struct.pack("<HHIIIIIHHHHHH", 2, 3, 1, LOAD_ADDRESS, 52, 0, 0, 52, 32, 2, 0, 0, 0)
    load = struct.pack("<8I", 1, code_at, LOAD_ADDRESS, LOAD_ADDRESS, len(code), len(code), 7, 4)
    note = struct.pack("<8I", 4, note_at, 0, 0, len(_NOTE), len(_NOTE), 4, 4)
    return header + load + note + _NOTE + code
