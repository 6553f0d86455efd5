"""Cold `Create` of a sandbox beside a bare QEMU that boots the same guest until its agent answers.

The sandbox has virtio-fs and a network (a veth, as CNI makes it), which the bare QEMU has not. `Create` is measured to
its answer, when there is a container, too; and by the daemon's own clock to a guest with its sandbox. Another pod stays
all the while, as on a node in use.
"""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from typing import Any

from bench.bare_qemu import boot, command_of
from bench.outcome import Bar, Outcome
from bench.start_records import Started, median_phases, resident, started
from bench.stats import difference, median, ratio
from bench.subjects import OURS, Context
from protos.anys import pack
from protos.codec import encode
from protos.gen.containerd.task.v2 import CreateTaskRequest, DeleteRequest, KillRequest, ShutdownRequest, WaitRequest
from protos.gen.containerd.types import Mount
from protos.gen.runtimeoptions.v1 import Options
from tests.harness.bundles import Bundle, spec
from tests.harness.netns import Netns, network_namespace
from tests.harness.shim_binary import connect
from tests.harness.waiting import eventually

#: How many times the floor a cold start of a sandbox may take, and how many times all of Create.
LIMIT, LIMIT_OF_CREATE = 1.10, 1.25

CREATE = f"{OURS}: Create to its answer"
SANDBOX = f"{OURS}: Create to a guest with its sandbox"
FLOOR = "bare QEMU to agent ready"

_ROUNDS = 7
_TIMEOUT = 120.0


@dataclass(frozen=True)
class Boot:
    """One cold Create: its duration in seconds, how the daemon saw it, and the command line of its QEMU."""

    seconds: float
    record: Started
    command: list[str]


async def run(context: Context) -> Outcome:
    """The benchmark; subjects take turns, the first round warms the page cache and does not count."""
    boots: list[Boot] = []
    floors: list[float] = []
    with network_namespace() as netns, resident(context.bed.ctr()):
        netns.veth("eth0", "10.214.9.2/24", peer=("10.214.9.1/24",))
        for index in range(1 + context.rounds(_ROUNDS)):
            created = await _create(context, f"create-{index}", netns)
            bare = _boot_floor(context, created)
            if index:
                boots.append(created)
                floors.append(bare)
    return _outcome(boots, floors)


def _outcome(boots: list[Boot], floors: list[float]) -> Outcome:
    series = {
        CREATE: [one.seconds for one in boots],
        SANDBOX: [one.record.total for one in boots],
        FLOOR: floors,
    }
    beside = f"the floor: {median(floors):.2f} s"
    return Outcome(
        name="create",
        title="Cold Create of a sandbox",
        unit="s",
        series=series,
        bars=[
            Bar("the sandbox, times a bare QEMU to agent ready", ratio(series[SANDBOX], floors), LIMIT, "", beside),
            Bar("all of Create, times the same", ratio(series[CREATE], floors), LIMIT_OF_CREATE, "", beside),
        ],
        facts=[
            f"the sandbox is {difference(series[SANDBOX], floors):.2f} s above the floor, "
            f"all of Create {difference(series[CREATE], floors):.2f} s"
        ],
        phases={"cold": median_phases([one.record for one in boots])},
    )


async def _create(context: Context, container: str, netns: Netns) -> Boot:
    """Start a shim as containerd does, create one container in it, and take all of it down."""
    shim = context.shims()[OURS]
    directory = context.directory / container
    options = pack(Options(config_path=str(context.bed.configuration)))
    bundle = Bundle(directory, _in_namespace(spec(["sleep", "1000"]), netns))
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
            record, command = started(container), command_of(container)
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
    return Boot(took, record, command)


def _in_namespace(config: dict[str, Any], netns: Netns) -> dict[str, Any]:
    """The same container in a network namespace that is there."""
    for namespace in config["linux"]["namespaces"]:
        if namespace["type"] == "network":
            namespace["path"] = str(netns.path)
    return config


def _boot_floor(context: Context, created: Boot) -> float:
    directory = context.directory / "bare"
    directory.mkdir()
    try:
        return boot(created.command, directory)
    finally:
        shutil.rmtree(directory)
