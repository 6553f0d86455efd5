"""Contract: a copy equals its source, holes and all."""

from __future__ import annotations

import os

import pytest

from hypervisor.errors import HypervisorError
from hypervisor.template.copying import STEP, copy_sparse

pytestmark = pytest.mark.anyio
MIB = 1 << 20


def memfd(*pieces: tuple[int, bytes], size: int) -> int:
    fd = os.memfd_create("test")
    os.ftruncate(fd, size)
    for offset, data in pieces:
        os.pwrite(fd, data, offset)
    return fd


async def test_what_was_written_is_copied_and_holes_stay_holes():
    size = 4 * STEP
    source = memfd((MIB, b"a" * MIB), (2 * STEP, b"b" * (STEP + 4096)), size=size)
    target = os.memfd_create("copy")

    copied = await copy_sparse(source, target)

    assert copied == MIB + STEP + 4096
    assert os.pread(target, size, 0) == os.pread(source, size, 0)
    assert os.fstat(target).st_blocks == os.fstat(source).st_blocks
    os.close(source)
    os.close(target)


async def test_an_empty_memory():
    source, target = memfd(size=MIB), os.memfd_create("copy")

    assert await copy_sparse(source, target) == 0

    assert os.fstat(target).st_size == MIB
    os.close(source)
    os.close(target)


async def test_what_can_not_be_copied_is_an_error(tmp_path):
    source = memfd((0, b"x"), size=MIB)
    target = os.open(tmp_path, os.O_RDONLY)

    with pytest.raises(HypervisorError, match="can't be copied"):
        await copy_sparse(source, target)
    os.close(source)
    os.close(target)
