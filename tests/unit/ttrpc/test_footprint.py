"""The guest carries the standard library, `grpclib.const` and `grpclib.exceptions`, and nothing else."""

from __future__ import annotations

import subprocess
import sys

_PROGRAM = """
import sys
before = set(sys.modules)
import ttrpc.client, ttrpc.fdtransport, ttrpc.server
for name in sorted(set(sys.modules) - before):
    top = name.partition(".")[0]
    if top not in sys.stdlib_module_names and top != "ttrpc":
        print(name)
"""


def test_the_package_imports_only_what_the_guest_has() -> None:
    result = subprocess.run([sys.executable, "-c", _PROGRAM], capture_output=True, text=True, check=True, timeout=60)

    assert result.stdout.split() == ["grpclib", "grpclib.const", "grpclib.exceptions"]
