"""Contract: once the gaps are filled, what is allocated does not come to lie among what was there before."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

_PROJECT = Path(__file__).resolve().parents[3]
# In an interpreter of its own: gaps are made by dropping every other of many objects, in pools that it tells.
_SCRIPT = """\
import gc, sys
sys.path.insert(0, {root!r})
from shim.forkserver.heap import POOL_SIZE, fill_gaps
gc.disable()
old = [[bytes(size) for _ in range(4000)] for size in (20, 100, 300)]
old = [some[::2] for some in old]
pools = {{id(one) // POOL_SIZE for some in old for one in some}}
if {fills}: fill_gaps()
new = [bytes(size) for size in (20, 100, 300) for _ in range(500)]
print(sum(id(one) // POOL_SIZE in pools for one in new))
"""


@pytest.mark.parametrize(("fills", "expected"), [(False, range(1000, 1501)), (True, range(100))])
def test_new_objects_stay_off_the_pages_of_old_ones(fills: bool, expected: range) -> None:
    script = _SCRIPT.format(root=str(_PROJECT), fills=fills)

    done = subprocess.run([sys.executable, "-I", "-S", "-c", script], capture_output=True, text=True, check=True)

    assert int(done.stdout) in expected
