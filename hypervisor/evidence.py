"""From what a dying VM left behind to one line that names the cause. Pure functions over text and numbers."""

from __future__ import annotations

import re
import signal

#: What a Linux kernel or its first process says when it can't go on, most telling first.
_FATAL_LINES = (
    re.compile(r"Kernel panic - not syncing: .*"),
    re.compile(r"\bBUG: .*|\bOops: .*|\bgeneral protection fault.*"),
    re.compile(r"Out of memory: Killed process .*"),
    re.compile(r"No working init found.*|Failed to execute /.*|Run /\S+ as init process.*failed.*"),
)
_ESCAPES = re.compile(r"\x1b(?:\[[0-9;?]*[ -/]*[@-~]|[()][0-9A-B]|[=>c])")
_TIMESTAMP = re.compile(r"^(?:<\d+>)?\[ *\d+\.\d+\](?:\[ *[TC]\d+\])? *")
_NOISE = re.compile(r"^-+\[ (?:cut here|end .*) \]-+$|^\W*$")
#: QEMU's remarks that are no reason to die.
_WARNING = re.compile(r"(?:^|: )(?:warning|info): ", re.IGNORECASE)

#: QMP's `ShutdownCause`, as far as QEMU ends in order with it: what happened, and whether nobody had asked for it.
_CAUSES = {
    "guest-reset": ("the guest restarted", True),
    "guest-shutdown": ("the guest powered off", False),
    "guest-panic": ("the guest's kernel panicked", True),
    "host-qmp-quit": ("QEMU was told to quit", False),
    "host-signal": ("QEMU was told to end by a signal", False),
}


def console_lines(console: str) -> list[str]:
    """The meaningful lines of a guest's console: without escapes, kernel timestamps and decoration."""
    plain = _ESCAPES.sub("", console).replace("\r", "\n")
    stripped = (_TIMESTAMP.sub("", line).strip() for line in plain.split("\n"))
    return [line for line in stripped if not _NOISE.match(line)]


def guest_failure(console: str) -> str | None:
    """What the guest's kernel died of, in its own words; None if it did not say so."""
    lines = console_lines(console)
    for pattern in _FATAL_LINES:
        for line in reversed(lines):
            if found := pattern.search(line):
                return found.group().strip()
    return None


def last_words(console: str, count: int = 2) -> str:
    """The last `count` meaningful console lines in one; empty if there were none."""
    return " | ".join(console_lines(console)[-count:])


def stderr_cause(stderr: str) -> str | None:
    """The line of a helper's standard error most likely to be the reason: its last that is no mere warning."""
    lines = (line.strip() for line in reversed(stderr.splitlines()))
    return next((line for line in lines if line and not _WARNING.search(line)), None)


def describe_exit(name: str, returncode: int, stderr: str = "") -> str:
    """How process `name` ended, e.g. 'QEMU exited with status 1: <its last line>' or 'QEMU was killed by SIGKILL'."""
    ended = f"was killed by {signal_name(-returncode)}" if returncode < 0 else f"exited with status {returncode}"
    cause = stderr_cause(stderr)
    return f"{name} {ended}: {cause}" if cause else f"{name} {ended}"


def signal_name(number: int) -> str:
    """'SIGKILL' for 9; 'signal 64' for those without a name."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def describe_end(returncode: int, shutdown_cause: str | None, stderr: str, console: str) -> str:
    """Why a VM ended, in one line: what QEMU's exit, its SHUTDOWN event, its stderr and the console tell together."""
    surprising = returncode > 0
    reason = describe_exit("QEMU", returncode, stderr)
    if returncode == 0 and shutdown_cause in _CAUSES:
        reason, surprising = _CAUSES[shutdown_cause]
    if failure := guest_failure(console):
        return f"{reason}: {failure}"
    words = last_words(console) if surprising else ""
    return f"{reason} (last on its console: {words})" if words else reason
