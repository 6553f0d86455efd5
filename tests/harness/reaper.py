"""The process that all processes of a bed descend from: a subreaper that starts what it is told to, and reaps.

Run as a program by `nursery.Nursery`: `reaper.py COMMAND...`. Each line on its standard input starts COMMAND once more,
answered by a line with the pid. The end of its standard input, which comes too when the test run is killed, kills
every descendant that is left. Daemons that detach (a shim does) are reparented to the nearest subreaper above them
(prctl(2), PR_SET_CHILD_SUBREAPER), which is this process: nothing that a bed started is ever out of sight.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import subprocess
import sys

_PR_SET_CHILD_SUBREAPER = 36


def become_subreaper() -> None:
    """Adopt all orphans below this process; raises `OSError` if the kernel refuses."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


def reap() -> None:
    """Collect all children that have ended."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


def children() -> list[int]:
    """Our children, orphans that were given to us among them."""
    with open(f"/proc/self/task/{os.getpid()}/children") as listing:
        return [int(word) for word in listing.read().split()]


def kill_everything() -> None:
    """Kill children until there are none: each dead parent hands its own children up to us."""
    while left := children():
        for pid in left:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return
        reap()


def serve(command: list[str]) -> None:
    """Start `command` for each line of standard input, until its end; reap all the while."""
    wake_read, wake_write = os.pipe()
    os.set_blocking(wake_write, False)
    signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    while True:
        ready = select.select([0, wake_read], [], [])[0]
        if wake_read in ready:
            os.read(wake_read, 4096)
            reap()
        if 0 in ready:
            if not os.read(0, 4096):
                return
            # The object is forgotten on purpose: `reap` collects the child like any other.
            started = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=2)
            started.returncode = 0
            os.write(1, f"{started.pid}\n".encode())


def main() -> None:
    """Serve until standard input ends, then leave nobody behind. Signals to the test run's group are not for us."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    become_subreaper()
    try:
        serve(sys.argv[1:])
    finally:
        kill_everything()


if __name__ == "__main__":
    main()
