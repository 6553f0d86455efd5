"""Start of a sandbox from a template beside its cold start, and beside the restore alone.

Another pod stays all the while, as on a node in use. The clock is the daemon's own, from `Create` to a guest with its
sandbox (the journal's `started`). The network is a veth in a namespace, as CNI makes it. Each start from a template
proves that it is one: `-incoming` in QEMU's arguments.

The floor is what no start from a template can do without: memory copied, QEMU up, state read, virtio-fs plugged in, the
agent's answer, the share mounted. It has no shim, daemon, network or identity; memory and state are those of the very
template.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path

import config
from agent_client.client import AgentClient
from bench.outcome import Bar, Outcome
from bench.start_records import Started, median_phases, resident, started
from bench.stats import ratio
from bench.subjects import OURS, Context
from hypervisor.accelerator import resolve
from hypervisor.qemu import QemuVm
from hypervisor.virtiofsd import Virtiofsd
from sandbox.annotations import ContainerKind
from sandbox.factory.templates import Templates
from sandbox.oci import Spec, decode
from sandbox.plan import Host, SandboxPlan, host_size, plan_sandbox
from sandbox.sharing.virtiofs import VirtioFsPlan
from tests.harness import bundles, processes
from tests.harness.ctr import Ctr
from tests.harness.netns import network_namespace
from tests.harness.waiting import eventually

COLD = "cold"
FLOOR = "restore, virtio-fs and mount alone"
#: How much of the cold start, and how many times the floor, a start from a template may take.
OF_COLD, OF_FLOOR = 0.12, 2.0
_ROUNDS = 5
_TIMEOUT = 60.0


async def run(context: Context) -> Outcome:
    """The benchmark; subjects take turns, the first round warms the page cache and does not count."""
    store = Path(f"/dev/shm/kata-template-bench-{os.getpid()}")
    store.mkdir(mode=0o700)
    try:
        starts = _measure_starts(context, store)
        series = {subject: [one.total for one in found] for subject, found in starts.items()}
        series[FLOOR] = [await _floor(context, store, index) for index in range(1 + len(series[OURS]))][1:]
    finally:
        shutil.rmtree(store)
    return Outcome(
        name="template",
        title="Start of a sandbox from a template",
        unit="s",
        series=series,
        bars=[
            Bar("of the cold start", ratio(series[OURS], series[COLD]), OF_COLD, ""),
            Bar("times the restore alone", ratio(series[OURS], series[FLOOR]), OF_FLOOR, ""),
        ],
        phases={"template": median_phases(starts[OURS])},
    )


def _measure_starts(context: Context, store: Path) -> dict[str, list[Started]]:
    cold = Ctr(context.bed.socket, context.bed.runtime, configuration=context.bed.configuration)
    cloned = Ctr(context.bed.socket, context.bed.runtime, configuration=_configuration(context, store))
    with network_namespace() as netns, resident(cold):
        netns.veth("eth0", "10.214.8.2/24", peer=("10.214.8.1/24",))
        _start(cloned, "template-first", netns.option, wait_for=store)
        starts: dict[str, list[Started]] = {OURS: [], COLD: []}
        for index in range(1 + context.rounds(_ROUNDS)):
            for subject, ctr, kind in ((OURS, cloned, "template"), (COLD, cold, "cold")):
                record = _start(ctr, f"template-{kind}-{index}", netns.option, kind)
                if index:
                    starts[subject].append(record)
    return starts


def _configuration(context: Context, store: Path) -> Path:
    path = context.directory / "template.toml"
    keys = f'[factory]\nenable_template = true\ntemplate_path = "{store}"\n'
    path.write_text(context.bed.configuration.read_text().replace("[factory]\n", keys, 1))
    return path


def _start(ctr: Ctr, name: str, options: tuple[str, ...], kind: str = "", wait_for: Path | None = None) -> Started:
    """How the start of a sandbox went, by its journal; it is of that kind, and gone again."""
    ctr.run_detached(name, "sleep", "100000", options=options)
    try:
        record = started(name)
        is_clone = any("-incoming" in one.command for one in processes.find(rf"guest={name},"))
        if kind and (record.kind, is_clone) != (kind, kind == "template"):
            raise RuntimeError(f"{name} is no {kind} start: {record.kind}, -incoming: {is_clone}")
        if wait_for is not None:
            eventually(lambda: list(wait_for.glob("*/manifest.json")), "a template is built", _TIMEOUT)
        return record
    finally:
        ctr.remove(name)


async def _floor(context: Context, store: Path, index: int) -> float:
    directory = context.scratch(f"floor-{index}")
    settings = config.load(_configuration(context, store))
    host = Host(host_size(), resolve(settings.hypervisor.accelerator), False)
    spec = decode(json.dumps(bundles.spec(["sleep"])).encode(), Spec, "spec")
    plan = plan_sandbox(settings, spec, ContainerKind.SINGLE, f"floor-{index}", directory, host)
    (directory / "shared").mkdir()
    try:
        return await _restore(plan)
    finally:
        shutil.rmtree(directory)


async def _restore(plan: SandboxPlan) -> float:
    if plan.factory is None or not isinstance(plan.sharing, VirtioFsPlan):
        raise RuntimeError("the benchmark needs a configuration with virtio-fs")
    clone = Templates(plan, plan.factory).clone()
    if clone is None:
        raise RuntimeError("there is no template to restore")
    daemon, vm = Virtiofsd(plan.sharing.daemon), QemuVm(clone.plan.vm)
    began = time.perf_counter()
    try:
        await daemon.start(_TIMEOUT)
        await clone.prepare()
        await vm.start(_TIMEOUT)
        await clone.plug(vm)
        await vm.resume()
        agent = await AgentClient.connect(vm.agent_url, timeout=_TIMEOUT)
        await agent.create_sandbox(sandbox_id="floor", storages=plan.sharing.sandbox_storages)
        took = time.perf_counter() - began
        agent.close()
        return took
    finally:
        clone.close()
        vm.kill()
        if vm.pid:
            await vm.wait()
        daemon.kill()
        if daemon.pid:
            await daemon.wait()
