"""Contract: a VM that ends while it is handed over is no more than that."""

from __future__ import annotations

import os
import subprocess
import sys

from hypervisor.handover.vm import _be_nice


def test_a_process_that_is_gone_has_no_niceness_to_be_set():
    process = subprocess.run(
        [sys.executable, "-S", "-c", "import os; print(os.getpid())"], capture_output=True, check=True
    )

    _be_nice(int(process.stdout), 0)


def test_all_threads_of_a_process_get_it():
    with subprocess.Popen(["sleep", "100"]) as process:
        _be_nice(process.pid, 5)
        assert os.getpriority(os.PRIO_PROCESS, process.pid) == 5
        process.kill()
