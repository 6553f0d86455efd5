"""The shim with its coverage measured: what a covered bed's launcher runs, and the program of the daemon it leaves.

A shim is started by containerd, far from pytest, and isolated from the environment's Python settings: so the recorder
is started here, from two variables that a covered bed sets for its containerd. A killed process records nothing.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

#: Data file (a suffix is added for each process), and the project's settings.
DATA_VARIABLE = "KATA_SHIM_COVERAGE_FILE"
SETTINGS_VARIABLE = "KATA_SHIM_COVERAGE_SETTINGS"


@contextmanager
def _recording() -> Iterator[None]:
    """Record the body, and save whichever way it ends; the shim's helpers end by `os._exit`."""
    import coverage

    recorder = coverage.Coverage(
        data_file=os.environ[DATA_VARIABLE], data_suffix=True, config_file=os.environ[SETTINGS_VARIABLE]
    )
    # Each process sees a part of the rooms only, and a word on standard error would be taken for an answer of `start`.
    recorder.set_option("run:disable_warnings", ["module-not-imported", "module-not-measured", "no-data-collected"])
    leave = os._exit

    def save() -> None:
        recorder.stop()
        recorder.save()

    def save_and_leave(status: int) -> None:
        save()
        leave(status)

    os._exit = save_and_leave  # type: ignore[assignment]
    recorder.start()
    try:
        yield
    finally:
        save()


def helper() -> None:
    """Be the executable that containerd runs (`shim/launcher.py`), with this file as the daemon's program."""
    from shim.paths import add_import_roots

    add_import_roots()
    with _recording():
        from shim.main import main

        main(sys.argv[1:], __file__)


def daemon() -> None:
    """Be the daemon (`shim/entry.py`)."""
    sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
    from shim.paths import add_import_roots

    add_import_roots()
    with _recording():
        from shim.daemon import main

        main(sys.argv[1:])


def launcher_text(python: str, root: str) -> str:
    """The text of a launcher that runs `helper`."""
    return (
        f"#!{python} -IS\nimport sys\nsys.path.insert(0, {root!r})\n"
        "from tests.harness.covered import helper\nhelper()\n"
    )


if __name__ == "__main__":
    daemon()
