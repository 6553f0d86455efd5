"""Twenty pods of one template, a few at a time: each is somebody else, and all know what time it is."""

from __future__ import annotations

import select
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.integration.template.clones import Clones

pytestmark = pytest.mark.integration

CLONES = 20
#: How many run at a time; more would only wait for each other on a small machine.
AT_ONCE = 3
#: How far a clock may be off, in seconds, and how often it is asked.
CLOCK_ERROR = 0.1
ASKED = 3
#: Seconds for a clone to start and answer, beside others on a busy machine.
PATIENCE = 120.0
DRAWN = ("random bytes", "UUID", "boot id", "key", "temporary name")
#: Prints what is drawn, a line each: random bytes, a UUID, the boot id, a key's seed as OpenSSH draws it (getrandom), a
#: name of mktemp; and then the clock for each line that it is sent.
IDENTITY = (
    'head -c 16 /dev/urandom | hexdump -e \'16/1 "%02x" "\\n"\'; cat /proc/sys/kernel/random/uuid; '
    "cat /proc/sys/kernel/random/boot_id; head -c 32 /dev/random | sha256sum; mktemp -u; "
    "while read -r _; do adjtimex | sed -n 's/.*tv_sec: *//p; s/.*tv_usec: *//p' | tr '\\n' ' '; echo; done"
)


def test_twenty_clones_have_nothing_of_one_another_and_the_hosts_time(clones: Clones) -> None:
    clones.ensure_template()
    names = [f"tpl-id-{index}" for index in range(CLONES)]

    with ThreadPoolExecutor(AT_ONCE) as pool:
        drawn = list(pool.map(lambda name: _identity(clones, name), names))

    assert {clones.start_of(name).kind for name in names} == {"template"}
    for kind, values in zip(DRAWN, zip(*drawn, strict=True), strict=True):
        assert len(set(values)) == CLONES, f"a {kind} came twice: {sorted(values)}"


def _identity(clones: Clones, name: str) -> list[str]:
    """What a clone draws; its clock has been looked at, too."""
    command = clones.ctr.command(*clones.ctr.run_arguments(name, "sh", "-c", IDENTITY, options=("--rm",)))
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as client:
        try:
            lines = _lines(client)
            drawn = [next(lines) for _ in DRAWN]
            for _ in range(ASKED):
                _check_clock(client, lines)
            assert client.stdin is not None
            client.stdin.close()
            client.wait(PATIENCE)
        finally:
            if client.poll() is None:
                client.kill()
                clones.ctr.remove(name)
    assert all(drawn)
    return drawn


def _check_clock(client: subprocess.Popen[bytes], lines: Iterator[str]) -> None:
    """The guest reads its clock after it was asked and before we have its answer, however long either takes."""
    assert client.stdin is not None
    asked = time.time()
    client.stdin.write(b"\n")
    client.stdin.flush()
    seconds, microseconds = next(lines).split()
    answered = time.time()
    clock = int(seconds) + int(microseconds) / 1e6
    assert asked - CLOCK_ERROR <= clock <= answered + CLOCK_ERROR


def _lines(client: subprocess.Popen[bytes]) -> Iterator[str]:
    """Lines of its output, each of which comes in time."""
    assert client.stdout is not None
    text = b""
    while True:
        while b"\n" not in text:
            ready, _, _ = select.select([client.stdout], [], [], PATIENCE)
            piece = client.stdout.read1() if ready else b""
            assert piece, f"no more output after {text!r}"
            text += piece
        line, _, text = text.partition(b"\n")
        yield line.decode().strip()
