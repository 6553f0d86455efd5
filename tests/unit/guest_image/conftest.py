"""Builders of the small ELF files and package trees that the tests of the guest builder share."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence

import pytest

MakeElf = Callable[..., bytes]


def _header(*, program_headers: int, sections_at: int, section_count: int) -> bytes:
    ident = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    return ident + struct.pack(
        "<HHIQQQIHHHHHH",
        2,
        62,
        1,
        0,
        64,
        sections_at,
        0,
        64,
        56,
        program_headers,
        64,
        section_count,
        max(section_count - 1, 0),
    )


def with_sections(sections: dict[str, bytes]) -> bytes:
    """Return an ELF file with these sections and a table of their names."""
    names = b"\0" + b"".join(name.encode() + b"\0" for name in (*sections, ".shstrtab"))
    body, rows, name_at = b"", [struct.pack("<IIQQQQIIQQ", *([0] * 10))], 1
    for name, data in (*sections.items(), (".shstrtab", names)):
        rows.append(struct.pack("<IIQQQQIIQQ", name_at, 1, 0, 0, 64 + len(body), len(data), 0, 0, 1, 0))
        body += data
        name_at += len(name) + 1
    return _header(program_headers=0, sections_at=64 + len(body), section_count=len(rows)) + body + b"".join(rows)


def with_segments(segments: Sequence[tuple[int, bytes]]) -> bytes:
    """Return an ELF file of (type, contents) segments and a first one that loads the whole file at address 0x1000."""
    body_at = 64 + 56 * (len(segments) + 1)
    total = body_at + sum(len(data) for _, data in segments)
    rows, body = [struct.pack("<IIQQQQQQ", 1, 5, 0, 0x1000, 0x1000, total, total, 0x1000)], b""
    for kind, data in segments:
        offset = body_at + len(body)
        rows.append(struct.pack("<IIQQQQQQ", kind, 4, offset, 0x1000 + offset, 0, len(data), len(data), 8))
        body += data
    return _header(program_headers=len(rows), sections_at=0, section_count=0) + b"".join(rows) + body


@pytest.fixture
def make_module() -> MakeElf:
    """Return a builder of kernel modules."""

    def make(depends: str = "", aliases: Sequence[str] = (), signed: bool = False) -> bytes:
        info = [f"depends={depends}", "license=GPL", *(f"alias={alias}" for alias in aliases)]
        module = with_sections({".text": b"\xc3", ".modinfo": "\0".join(info).encode() + b"\0"})
        if signed:
            module += b"S" * 20 + struct.pack(">BBBBB3xI", 0, 0, 2, 0, 0, 20) + b"~Module signature appended~\n"
        return module

    return make


@pytest.fixture
def make_program() -> MakeElf:
    """Return a builder of dynamically linked programs and libraries."""

    def make(*needed: str) -> bytes:
        names = b"\0" + b"".join(name.encode() + b"\0" for name in needed)
        strings_at = 0x1000 + 64 + 56 * 3
        entries, at = [(5, strings_at)], 1
        for name in needed:
            entries.append((1, at))
            at += len(name) + 1
        dynamic = b"".join(struct.pack("<qQ", *entry) for entry in (*entries, (0, 0)))
        return with_segments([(0x70000000, names), (2, dynamic)])

    return make


@pytest.fixture
def make_kernel() -> MakeElf:
    """Return a builder of vmlinux files, with or without a PVH entry point."""

    def make(pvh: bool = True) -> bytes:
        def note(name: bytes, kind: int) -> bytes:
            return struct.pack("<III", len(name), 4, kind) + name.ljust(len(name) + 3 & ~3, b"\0") + b"\0\0\0\1"

        return with_segments([(4, note(b"GNU\0", 3) + note(b"Xen\0", 18 if pvh else 6))])

    return make
