"""The pod's VM from configuration to an answering agent, and what runs beside it from then on."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import anyio

import config
from config import Config, ConfigError, NotAllowedError
from config.annotation_names import CONFIG_PATH
from config.annotations import apply, chosen_file
from hypervisor import vsock
from hypervisor.accelerator import resolve
from hypervisor.errors import HypervisorError
from sandbox import slowness
from sandbox.annotations import AnnotationError, ContainerKind
from sandbox.errors import FailedPreconditionError, InvalidArgumentError, SandboxError
from sandbox.exits import Exits
from sandbox.machine import Machine
from sandbox.network.network import PodNetwork
from sandbox.oci import Spec
from sandbox.phases import QUEUE, Phases, StartRecord
from sandbox.plan import Host, SandboxPlan, host_size, plan_sandbox
from sandbox.pod_state import PodState
from sandbox.turns import turn

if TYPE_CHECKING:
    from sandbox.cache.received import CachedVm
    from sandbox.factory.clone import Clone
    from sandbox.factory.templates import Templates

_log = logging.getLogger(__name__)


def make_plan(
    pod: PodState, spec: Spec, kind: ContainerKind, config_path: Path | None, config_body: str = ""
) -> SandboxPlan:
    """The plan for a pod whose first container has `spec`.

    `config_path` is the file that its own options name, `config_body` the configuration that they are, if they do.
    Raises `InvalidArgumentError` for a configuration or an annotation that makes no sense, `FailedPreconditionError`
    for an annotation that the configuration does not allow.
    """
    try:
        settings = _load_config(pod, spec, config_path, config_body)
        host = Host(host_size(), resolve(settings.hypervisor.accelerator), vsock.available())
        return plan_sandbox(settings, spec, kind, pod.identity.sandbox_id, pod.directory.path, host)
    except NotAllowedError as error:
        raise FailedPreconditionError(str(error)) from error
    except (ConfigError, AnnotationError, HypervisorError) as error:
        raise InvalidArgumentError(str(error)) from error


def _load_config(pod: PodState, spec: Spec, config_path: Path | None, config_body: str) -> Config:
    """In the order of Kata: the file that an annotation chooses, else what the options name or are, else the host's."""
    settings = config.loads(config_body) if config_body and not spec.annotations.get(CONFIG_PATH) else None
    if settings is None:
        settings = pod.load_config(chosen_file(spec.annotations, config_path or pod.identity.config_path))
    settings = apply(settings, spec.annotations)
    for warning in settings.ignored:
        _log.warning("configuration: %s", warning)
    return settings


async def bring_up(pod: PodState, plan: SandboxPlan, phases: Phases) -> Machine:
    """Boot the VM, have it be the pod's, and watch over it from now on; raises `SandboxError`, and nothing is left."""
    with phases.phase("cgroup"):
        _enter_cgroup(pod, plan)
    templates = _templates(plan)
    network = _warm_network(pod, plan) if plan.cache is not None else None
    try:
        machine, kind = await _cached(pod, plan, phases, network), "cache"
        if machine is None:
            async with turn(pod.directory.path, plan.parallel_boots, phases):
                machine, kind = await _made(pod, plan, templates, phases, network)
    except BaseException:
        if network is not None:
            network.close()
        raise
    try:
        await _place(pod, machine, is_ours=kind != "cache")
    except BaseException:
        with anyio.CancelScope(shield=True):
            await machine.close()
        raise
    pod.machine = machine
    pod.started = phases.record(kind, slowness.bytes_read(machine.pid))
    pod.group.start_soon(machine.watch)
    pod.group.start_soon(machine.share.serve, machine.agent.storage)
    pod.group.start_soon(machine.follow_network)
    pod.group.start_soon(machine.forward_ports)
    pod.group.start_soon(machine.sizer.follow)
    pod.group.start_soon(Exits(pod).watch_oom)
    fields = {
        "sandbox": pod.identity.sandbox_id,
        "kind": kind,
        "accelerator": plan.vm.accelerator,
        **phases.fields(),
    }
    if slow := "; ".join(_reasons(plan, pod.started)):
        fields["slow"] = slow
    _log.info("sandbox started", extra={"fields": fields})
    _record(pod, machine, pod.started)
    if templates is not None and kind == "cold":
        pod.group.start_soon(templates.build, partial(pod.directory.record_process, "template"), pod.expel)
    return machine


async def _made(
    pod: PodState, plan: SandboxPlan, templates: Templates | None, phases: Phases, network: PodNetwork | None
) -> tuple[Machine, str]:
    """A machine of a template, if that will do, else one that boots; and which it is."""
    machine = await _restored(pod, templates, phases, network) if templates is not None else None
    if machine is not None:
        return machine, "template"
    machine = _machine(pod, plan, network=network)
    await machine.boot(phases)
    return machine, "cold"


def _enter_cgroup(pod: PodState, plan: SandboxPlan) -> None:
    """Raises `FailedPreconditionError` where everything has to be in the pod's cgroup, and can't be."""
    try:
        pod.enter_cgroup(plan.cgroup, plan.overhead_cgroup)
    except FailedPreconditionError as error:
        if not plan.overhead_cgroup:
            raise
        _log.warning("the pod is counted with containerd: %s", error)


async def _place(pod: PodState, machine: Machine, is_ours: bool) -> None:
    """Have QEMU, unless it was born there (`is_ours`), and its vCPUs, those of later ones too, where they belong."""
    cgroup = pod.cgroup
    if cgroup is None:
        return
    if not is_ours:
        cgroup.adopt(machine.pid)
    if cgroup.has_vcpus_apart:
        await machine.sizer.follow_vcpus(partial(cgroup.place_vcpus, machine.pid))


def _templates(plan: SandboxPlan) -> Templates | None:
    if plan.factory is None:
        return None
    # Who does not ask for templates does not pay for them.
    from sandbox.factory.templates import Templates

    return Templates(plan, plan.factory)


def _warm_network(pod: PodState, plan: SandboxPlan) -> PodNetwork:
    """The pod's network on its way: with a VM that waits already there is nothing else that takes as long."""
    network = PodNetwork(plan.network, pod.directory.record)
    network.warm()
    return network


def _machine(
    pod: PodState, plan: SandboxPlan, ready: Clone | CachedVm | None = None, network: PodNetwork | None = None
) -> Machine:
    """`ready` is what its VM comes from, if that does not boot; `network` one that is on its way already."""
    extra = (ready, network) if network is not None else (ready,) if ready is not None else ()
    return pod.make_machine(plan, pod.directory, *extra)


async def _cached(pod: PodState, plan: SandboxPlan, phases: Phases, network: PodNetwork | None) -> Machine | None:
    """A machine whose VM was waiting in the cache; None if there is none, or one that is of no use, which is ended.

    Raises `SandboxError` for what would fail with a VM that is booted too.
    """
    if plan.cache is None:
        return None
    # Who does not ask for the cache does not pay for it.
    from sandbox.cache.client import take
    from sandbox.cache.received import PHASES

    with phases.phase("cache"):
        cached = await take(plan, plan.cache, pod.directory)
    if cached is None:
        return None
    try:
        machine = _machine(pod, cached.plan, cached, network)
        await machine.boot(phases)
    except SandboxError as error:
        if phases.failed not in PHASES:
            raise
        _log.warning("the VM from the cache is of no use: %s", error)
        phases.forgive()
        return None
    finally:
        cached.close()
    return machine


async def _restored(
    pod: PodState, templates: Templates, phases: Phases, network: PodNetwork | None = None
) -> Machine | None:
    """A machine whose VM is a clone; None if there is no template, or one that is of no use, which is dropped.

    Raises `SandboxError` for what would fail with a VM that is booted too.
    """
    from sandbox.factory.clone import PHASES

    clone = templates.clone()
    if clone is None:
        return None
    machine = _machine(pod, clone.plan, clone, network)
    try:
        await machine.boot(phases)
    except SandboxError as error:
        if phases.failed not in PHASES:
            raise
        clone.drop(str(error))
        phases.forgive()
        return None
    finally:
        clone.close()
    return machine


def _reasons(plan: SandboxPlan, start: StartRecord) -> Iterator[str]:
    return slowness.reasons(
        accelerator=plan.vm.accelerator,
        debug=plan.vm.debug,
        kernel=str(plan.vm.kernel) if start.kind == "cold" else "",
        read=start.read_bytes,
        waited=start.durations.get(QUEUE, 0.0),
    )


def _record(pod: PodState, machine: Machine, start: StartRecord) -> None:
    """Journal how the start went and what came of it, for whoever looks, with the daemon or not."""
    vm = machine.plan.vm
    size = {"vcpus": machine.sizer.size.vcpus, "memory_mib": machine.sizer.size.memory_mib}
    files = {"kernel": str(vm.kernel), "initrd": str(vm.initrd or ""), "image": str(vm.image or "")}
    kind = {"accelerator": vm.accelerator, "machine_type": vm.machine_type, "debug": vm.debug}
    facts = {
        "pod": dict(machine.plan.names),
        "vm": {**size, **kind, **files, "agent_url": machine.vm.agent_url},
        "start": start.fact(),
    }
    try:
        pod.directory.record("started", facts)
    except OSError as error:
        _log.warning("the start is not in the journal: %s", error)
