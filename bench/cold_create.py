"""Cold `Create` of a sandbox beside a bare QEMU that boots the same guest until its agent answers."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from bench.bare_qemu import boot
from bench.outcome import Bar, Outcome
from bench.stats import difference, ratio
from bench.subjects import OURS, Context
from protos.anys import pack
from protos.codec import encode
from protos.gen.containerd.task.v2 import CreateTaskRequest, DeleteRequest, KillRequest, ShutdownRequest, WaitRequest
from protos.gen.containerd.types import Mount
from protos.gen.runtimeoptions.v1 import Options
from tests.harness import processes
from tests.harness.bundles import Bundle, spec
from tests.harness.shim_binary import connect
from tests.harness.waiting import eventually

#: How many times the floor a cold Create may take.
LIMIT = 1.25

FLOOR = "bare QEMU to agent ready"

_ROUNDS = 5
_TIMEOUT = 120.0


@dataclass(frozen=True)
class Boot:
    """One cold Create: its duration in seconds, and the command line of its QEMU."""

    seconds: float
    command: list[str]


async def run(context: Context) -> Outcome:
    """The benchmark; subjects take turns, the first round warms the page cache and does not count."""
    series: dict[str, list[float]] = {OURS: [], FLOOR: []}
    for index in range(1 + context.rounds(_ROUNDS)):
        created = await _create(context, f"create-{index}")
        bare = _boot_floor(context, created)
        if index:
            series[OURS].append(created.seconds)
            series[FLOOR].append(bare)
    return Outcome(
        name="create",
        title="Cold Create of a sandbox",
        unit="s",
        series=series,
        bars=[Bar("times a bare QEMU to agent ready", ratio(series[OURS], series[FLOOR]), LIMIT, "")],
        facts=[f"{difference(series[OURS], series[FLOOR]):.2f} s above the floor"],
    )


async def _create(context: Context, container: str) -> Boot:
    """Start a shim as containerd does, create one container in it, and take all of it down."""
    shim = context.shims()[OURS]
    directory = context.directory / container
    options = pack(Options(config_path=str(context.bed.configuration)))
    bundle = Bundle(directory, spec(["sleep", "1000"]))
    request = CreateTaskRequest(
        id=container,
        bundle=str(directory),
        rootfs=[Mount(type="bind", source=str(context.rootfs()), options=["rbind", "rw"])],
        options=options,
    )
    try:
        address = shim.start(container, directory, encode(options)).check().text
        async with connect(address) as stub:
            began = time.perf_counter()
            await stub.create(request, timeout=_TIMEOUT)
            took = time.perf_counter() - began
            command = _qemu_of(container)
            await stub.kill(KillRequest(id=container, signal=9), timeout=_TIMEOUT)
            await stub.wait(WaitRequest(id=container), timeout=_TIMEOUT)
            await stub.delete(DeleteRequest(id=container), timeout=_TIMEOUT)
            await stub.shutdown(ShutdownRequest(id=container), timeout=_TIMEOUT)
        eventually(lambda: not shim.daemons(container), f"the daemon of {container} ends", 15)
    finally:
        shim.kill_daemons(container)
        shim.delete(container, directory)
        bundle.close()
        shutil.rmtree(directory)
    return Boot(took, command)


def _qemu_of(container: str) -> list[str]:
    """The command line of a sandbox' QEMU; raises `LookupError` if there is not exactly one."""
    found = [one for one in processes.find(rf"/run/kata/{container}-") if one.name.startswith("qemu-system")]
    if len(found) != 1:
        raise LookupError(f"{len(found)} QEMU processes of {container} instead of one")
    words = Path(f"/proc/{found[0].pid}/cmdline").read_bytes().rstrip(b"\0").split(b"\0")
    return [word.decode() for word in words]


def _boot_floor(context: Context, created: Boot) -> float:
    directory = context.directory / "bare"
    directory.mkdir()
    try:
        return boot(created.command, directory)
    finally:
        shutil.rmtree(directory)
