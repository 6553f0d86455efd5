"""What the builder reads from ELF files: sections, needed libraries, and the notes that make a kernel bootable.

Only 64-bit little-endian files are understood, which is what the guest runs. Layouts are those of the System V ABI.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

MAGIC = b"\x7fELF"
_HEADER_SIZE = 64
_SECTION = struct.Struct("<IIQQQQIIQQ")
_SEGMENT = struct.Struct("<IIQQQQQQ")
_DYNAMIC = struct.Struct("<qQ")
_NOTE = struct.Struct("<III")
_SHT_NOBITS = 8
_PT_LOAD = 1
_PT_DYNAMIC = 2
_PT_NOTE = 4
_DT_NEEDED = 1
_DT_STRTAB = 5
_XEN_ELFNOTE_PHYS32_ENTRY = 18
# What slicing and unpacking at offsets that a damaged file names can raise.
_MALFORMED = (struct.error, IndexError, OverflowError, ValueError)


class ElfError(ValueError):
    """The bytes are not an ELF file of the expected kind."""


@dataclass(frozen=True)
class Section:
    """One section: its name, where its name stands in the file, and where its contents are."""

    name: str
    name_offset: int
    offset: int
    size: int


def is_elf(data: bytes) -> bool:
    """Return whether `data` starts as an ELF file does."""
    return data[:4] == MAGIC


def sections(data: bytes) -> list[Section]:
    """Return the sections that have contents. Raises ElfError if the file is malformed."""
    _check(data)
    try:
        return list(_sections(data))
    except _MALFORMED as error:
        raise ElfError(f"malformed section table: {error}") from error


def section_data(data: bytes, name: str) -> bytes | None:
    """Return the contents of the section called `name`, or None if there is none."""
    for section in sections(data):
        if section.name == name:
            return data[section.offset : section.offset + section.size]
    return None


def needed_libraries(data: bytes) -> list[str]:
    """Return the DT_NEEDED names of a dynamically linked file; an empty list for a static one."""
    _check(data)
    try:
        return list(_needed(data))
    except _MALFORMED as error:
        raise ElfError(f"malformed dynamic section: {error}") from error


def has_pvh_entry(data: bytes) -> bool:
    """Return whether a kernel has the PVH entry point, with which QEMU starts an uncompressed vmlinux.

    Raises ElfError if the file is malformed.
    """
    _check(data)
    try:
        notes = [data[offset : offset + size] for kind, offset, _, size in _segments(data) if kind == _PT_NOTE]
    except _MALFORMED as error:
        raise ElfError(f"malformed program headers: {error}") from error
    return any(_has_pvh_note(note) for note in notes)


def _check(data: bytes) -> None:
    if len(data) < _HEADER_SIZE or data[:6] != MAGIC + b"\x02\x01":
        raise ElfError("not a 64-bit little-endian ELF file")


def _string(data: bytes, offset: int) -> str:
    return data[offset : data.index(b"\0", offset)].decode("ascii", "replace")


def _sections(data: bytes) -> Iterator[Section]:
    (table,) = struct.unpack_from("<Q", data, 40)
    entry_size, count, names_index = struct.unpack_from("<HHH", data, 58)
    rows = [_SECTION.unpack_from(data, table + index * entry_size) for index in range(count)]
    names = rows[names_index][4] if rows else 0
    for row in rows:
        if row[1] != _SHT_NOBITS:
            yield Section(_string(data, names + row[0]), names + row[0], row[4], row[5])


def _segments(data: bytes) -> Iterator[tuple[int, int, int, int]]:
    (table,) = struct.unpack_from("<Q", data, 32)
    entry_size, count = struct.unpack_from("<HH", data, 54)
    for index in range(count):
        kind, _, offset, address, _, size, _, _ = _SEGMENT.unpack_from(data, table + index * entry_size)
        yield kind, offset, address, size


def _needed(data: bytes) -> Iterator[str]:
    segments = list(_segments(data))
    for kind, offset, _, size in segments:
        if kind != _PT_DYNAMIC:
            continue
        entries = list(_DYNAMIC.iter_unpack(data[offset : offset + size]))
        strings = _file_offset(segments, dict(entries).get(_DT_STRTAB, 0))
        for tag, value in entries:
            if tag == _DT_NEEDED:
                yield _string(data, strings + value)


def _file_offset(segments: list[tuple[int, int, int, int]], address: int) -> int:
    for kind, offset, start, size in segments:
        if kind == _PT_LOAD and start <= address < start + size:
            return offset + address - start
    raise ValueError(f"address {address:#x} is in no segment")


def _has_pvh_note(notes: bytes) -> bool:
    position = 0
    while position + _NOTE.size <= len(notes):
        name_size, size, kind = _NOTE.unpack_from(notes, position)
        position += _NOTE.size
        name = notes[position : position + name_size]
        if name == b"Xen\0" and kind == _XEN_ELFNOTE_PHYS32_ENTRY:
            return True
        position += (name_size + 3 & ~3) + (size + 3 & ~3)
    return False
