"""What the benchmarks of the guest's agent share: a running guest, and a way to measure inside of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from agent_client.errors import AgentError
from tests.harness.live_guest import SHARED, Live, process, running, spec

_HOOKS = f"{SHARED}/hooks"


@asynccontextmanager
async def agent_guest(directory: Path) -> AsyncIterator[Live]:
    """A guest with a sleeping container, whose run directory is in `directory`; `inside` works in it."""
    directory.mkdir(parents=True)
    async with running(directory, guest_hook_path=_HOOKS, files={f"{_HOOKS}/prestart/probe": _PROBE}) as guest:
        yield guest


#: Runs as root in the guest itself, as the hook of a container that asks for it by an annotation.
_PROBE = b"""#!/usr/bin/python3 -ISB
import json, os, subprocess, sys, time
state = json.load(sys.stdin)
count = int(state["annotations"].get("bench.exec", "0"))
if not count:
    sys.exit(0)
command = ["/usr/bin/crun", "--root=/run/kata-agent/crun", "exec", "standing", "true"]
nothing = [(os.POSIX_SPAWN_OPEN, fd, "/dev/null", os.O_RDWR, 0) for fd in range(2)]
for _ in range(count):
    began = time.perf_counter()
    pid = os.posix_spawn(command[0], command, {"PATH": "/usr/bin"}, file_actions=nothing)
    if os.waitpid(pid, 0)[1]:
        sys.exit(f"crun exec failed")
    print(f"{(time.perf_counter() - began) * 1000:.1f}", file=sys.stderr)
sys.exit(1)
"""


async def crun_execs(guest: Live, count: int) -> list[float]:
    """Milliseconds that `crun exec` of `true` takes in the guest itself, with nobody from the host in it."""
    spec_of_it = spec(process("true"), annotations={"bench.exec": str(count)})
    try:
        await guest.agent.create_container(container_id=guest.name(), oci=spec_of_it)
    except AgentError as error:
        words = error.message.rpartition("probe: ")[2].split()
        return [float(word) for word in words]
    raise RuntimeError("the probe in the guest did not run")
