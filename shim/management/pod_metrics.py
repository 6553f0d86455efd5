"""What `/metrics` of one pod says: the shim, its helpers, the VM, the start's phases, and what the guest tells.

Names are Kata's where Kata has them. What the guest says is held to the names that are its own, so it can't speak for
the host.
"""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Final

from agent_client.errors import AgentError
from sandbox.errors import SandboxError
from sandbox.phases import StartRecord
from sandbox.pod_state import PodState
from shim.management import process_metrics
from shim.management.exposition import Family, Sample, number, parse, render
from shim.management.overhead import cpu_overhead, memory_overhead
from shim.version import VERSION

#: Seconds that the guest has for its part.
GUEST_TIMEOUT: Final = 2.0
#: Bounds of the guest's part: characters and samples. Kata's agent tells some 60 KB.
GUEST_TEXT_MAX: Final = 512 << 10
GUEST_SAMPLES_MAX: Final = 5000
#: Upper bounds of the histogram of start phases, in seconds.
BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)

PHASES: Final = "kata_shim_start_phase_duration_seconds"
#: The processes beside the daemon, by their names in the journal.
_HELPERS = {"qemu": ("kata_hypervisor", "QEMU"), "virtiofsd": ("kata_virtiofsd", "virtiofsd")}
_GUEST_NAMES = ("kata_agent_", "kata_guest_")
#: Names of the Prometheus library in Kata's agent, which its shim puts under the agent's.
_LIBRARY_NAME = "process_"

_log = logging.getLogger(__name__)


async def metrics(pod: PodState) -> str:
    """The text for one scrape; a guest that does not answer in time is left out, and `kata_shim_agent_up` is 0."""
    guest = await _guest(pod)
    up = Family("kata_shim_agent_up", "gauge", "Whether the guest's agent answered.").add(int(guest is not None))
    costs = await memory_overhead(pod) if guest is not None else []
    return render([*_host(pod), *costs, *await cpu_overhead(pod), up, *(guest or ())])


def _host(pod: PodState) -> Iterator[Family]:
    yield from process_metrics.families(os.getpid(), "kata_shim", "the shim")
    for name, pid in pod.directory.processes().items():
        if name in _HELPERS:
            prefix, what = _HELPERS[name]
            yield from process_metrics.families(pid, prefix, what)
    yield from _pod(pod)
    if pod.started is not None:
        yield phase_histogram(pod.started)


def _pod(pod: PodState) -> Iterator[Family]:
    states = Family("kata_shim_vm_state", "gauge", "State of the pod's VM: 1 for the one it is in.")
    yield states.add(1, state=vm_state(pod))
    containers = Family("kata_shim_containers", "gauge", "Containers of the pod by status.")
    for status, count in Counter(item.init.state.status.name.lower() for item in pod.containers.values()).items():
        containers.add(count, status=status)
    if containers.samples:
        yield containers
    if pod.machine is not None:
        size, spec = pod.machine.sizer.size, pod.machine.plan.vm
        yield Family("kata_shim_vm_vcpus", "gauge", "Processors of the VM.").add(size.vcpus)
        yield Family("kata_shim_vm_memory_bytes", "gauge", "Memory of the VM.").add(size.memory_mib << 20)
        info = Family("kata_shim_sandbox_info", "gauge", "What the pod's VM is.")
        yield info.add(1, accelerator=spec.accelerator, machine=spec.machine_type, version=VERSION)


def vm_state(pod: PodState) -> str:
    """`none` before there is a VM, `running`, or `lost`."""
    if pod.machine is None:
        return "none"
    return "lost" if pod.is_lost else "running"


def phase_histogram(start: StartRecord) -> Family:
    """The start as a histogram by phase and kind: one observation each, to be added up over pods."""
    family = Family(PHASES, "histogram", "Duration of the steps of a sandbox' start, by kind of start.")
    for phase, seconds in (*start.durations.items(), ("total", start.total)):
        labels = (("phase", phase), ("kind", start.kind))
        for bound in BUCKETS:
            place = (*labels, ("le", number(bound)))
            family.samples.append(Sample(f"{PHASES}_bucket", number(int(seconds <= bound)), place))
        family.samples.append(Sample(f"{PHASES}_bucket", "1", (*labels, ("le", "+Inf"))))
        family.samples.append(Sample(f"{PHASES}_sum", number(round(seconds, 6)), labels))
        family.samples.append(Sample(f"{PHASES}_count", "1", labels))
    return family


async def _guest(pod: PodState) -> list[Family] | None:
    """The guest's part; None if it does not answer."""
    try:
        text = await pod.require_machine().agent.upkeep.get_metrics(timeout=GUEST_TIMEOUT)
    except (AgentError, SandboxError) as error:
        _log.debug("metrics of the guest: %s", error)
        return None
    return list(own_families(parse(text[:GUEST_TEXT_MAX], GUEST_SAMPLES_MAX)))


def own_families(families: Iterable[Family]) -> Iterator[Family]:
    """Those that a guest may tell: its own names, and those of its library under the agent's."""
    for family in families:
        if family.name.startswith(_LIBRARY_NAME):
            yield _renamed(family, f"kata_agent_{family.name}")
        elif family.name.startswith(_GUEST_NAMES):
            yield family


def _renamed(family: Family, name: str) -> Family:
    samples = [Sample(name + one.name.removeprefix(family.name), one.value, one.labels) for one in family.samples]
    return Family(name, family.kind, family.help, samples)
