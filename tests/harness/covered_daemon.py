"""The program of the shim's daemon while coverage is measured: `shim/entry.py` with a recorder around it.

A shim is started by containerd, far from pytest, and isolated from the environment's Python settings: so the recorder
is started here, from two variables that a covered bed sets for its containerd. A killed daemon records nothing.
"""

import os
import sys

#: Data file (a suffix is added for each process), and the project's settings.
DATA_VARIABLE = "KATA_SHIM_COVERAGE_FILE"
SETTINGS_VARIABLE = "KATA_SHIM_COVERAGE_SETTINGS"


def main() -> None:
    """Record, become the daemon, and save whichever way it ends."""
    sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
    from shim.paths import add_import_roots

    add_import_roots()
    import coverage

    recorder = coverage.Coverage(
        data_file=os.environ[DATA_VARIABLE], data_suffix=True, config_file=os.environ[SETTINGS_VARIABLE]
    )
    leave = os._exit

    def save_and_leave(status: int) -> None:
        recorder.stop()
        recorder.save()
        leave(status)

    os._exit = save_and_leave  # type: ignore[assignment]
    recorder.start()
    from shim.daemon import main as daemon

    try:
        daemon(sys.argv[1:])
    finally:
        recorder.stop()
        recorder.save()


if __name__ == "__main__":
    main()
