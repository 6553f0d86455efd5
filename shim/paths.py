"""Where this project and its libraries are imported from.

The helpers and the daemon run isolated (`python -I -S`): neither the environment nor `site` decides what they import,
and the interpreter is up in half the time. So the two places are found here.
"""

from __future__ import annotations

import os
import sys

#: The directory that holds the rooms (`shim`, `sandbox`, ...): a source tree or a site-packages.
ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def import_roots() -> list[str]:
    """The directories that the daemon imports from, beside the standard library's: ours, then our libraries'."""
    roots = [ROOT]
    for directory in _library_roots():
        if directory not in roots and os.path.isdir(directory):
            roots.append(directory)
    return roots


def add_import_roots() -> None:
    """Put `import_roots` on the module search path, before all else."""
    roots = import_roots()
    sys.path[:] = roots + [entry for entry in sys.path if entry not in roots]


def _library_roots() -> list[str]:
    prefix = os.path.dirname(os.path.dirname(sys.executable))
    if os.path.exists(os.path.join(prefix, "pyvenv.cfg")):
        version = f"python{sys.version_info.major}.{sys.version_info.minor}"
        return [os.path.join(prefix, "lib", version, "site-packages")]
    import site

    return site.getsitepackages()
