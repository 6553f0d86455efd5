"""Twenty pods of one template, a few at a time: each is somebody else, and all know what time it is."""

from __future__ import annotations

import select
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

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
_SHARED = "/run/kata-containers/shared/containers/sandbox-mounts"
#: Run by the guest itself, for no container can see the machine's id: it goes to the host by the container's.
_HOOK = f"""#!/usr/bin/python3 -ISB
import json, sys
with open("{_SHARED}/told/" + json.load(sys.stdin)["id"], "w") as told:
    told.write(open("/etc/machine-id").read())
"""


@pytest.fixture
def telling(clones: Clones, tmp_path: Path) -> Clones:
    """Clones whose guests tell their machine's id in the directory `told`."""
    hook = tmp_path / "hooks" / "prestart" / "tell"
    hook.parent.mkdir(parents=True)
    hook.write_text(_HOOK)
    hook.chmod(0o755)
    (tmp_path / "told").mkdir()
    (tmp_path / "config.d").mkdir()
    mounts = f'sandbox_bind_mounts = ["{tmp_path}/hooks", "{tmp_path}/told:rw"]'
    (tmp_path / "config.d" / "50-told.toml").write_text(f"[runtime]\n{mounts}\n")
    return clones.configured(tmp_path, f'guest_hook_path = "{_SHARED}/hooks"')


def test_twenty_clones_have_nothing_of_one_another_and_the_hosts_time(telling: Clones, tmp_path: Path) -> None:
    telling.ensure_template()
    names = [f"tpl-id-{index}" for index in range(CLONES)]

    with ThreadPoolExecutor(AT_ONCE) as pool:
        drawn = list(pool.map(lambda name: _identity(telling, name), names))

    assert {telling.start_of(name).kind for name in names} == {"template"}
    for kind, values in zip(DRAWN, zip(*drawn, strict=True), strict=True):
        assert len(set(values)) == CLONES, f"a {kind} came twice: {sorted(values)}"
    machines = [(tmp_path / "told" / name).read_text() for name in names]
    assert len(set(machines)) == CLONES, machines
    assert all(len(machine.strip()) == 32 for machine in machines)


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
