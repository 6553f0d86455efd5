"""The ELF reader, on small files made here and on this machine's own."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guest.image import elf

Make = Callable[..., bytes]


def test_a_section_is_found_by_its_name(make_module: Make) -> None:
    module = make_module(depends="virtio")

    assert elf.section_data(module, ".modinfo") == b"depends=virtio\0license=GPL\0"
    assert elf.section_data(module, ".missing") is None


def test_the_libraries_of_a_program_are_its_needed_entries(make_program: Make) -> None:
    assert elf.needed_libraries(make_program("libm.so.6", "libc.so.6")) == ["libm.so.6", "libc.so.6"]
    assert elf.needed_libraries(make_program()) == []


def test_a_real_program_needs_the_c_library() -> None:
    assert "libc.so.6" in elf.needed_libraries(Path(sys.executable).resolve().read_bytes())


def test_only_a_kernel_with_the_pvh_note_is_bootable(make_kernel: Make) -> None:
    assert elf.has_pvh_entry(make_kernel(pvh=True))
    assert not elf.has_pvh_entry(make_kernel(pvh=False))


@pytest.mark.parametrize("data", [b"", b"\x7fELF", b"#!/bin/sh\n" * 20, b"\x7fELF\x01\x01" + bytes(100)])
def test_anything_but_a_64_bit_file_is_refused(data: bytes) -> None:
    with pytest.raises(elf.ElfError):
        elf.sections(data)


@given(st.binary(max_size=400))
def test_a_damaged_file_gives_an_error_and_nothing_else(tail: bytes) -> None:
    data = b"\x7fELF\x02\x01" + tail.ljust(80, b"\xff")

    for read in (elf.sections, elf.needed_libraries, elf.has_pvh_entry):
        try:
            read(data)
        except elf.ElfError:
            pass
