"""The pod's VM from configuration to an answering agent, and what runs beside it from then on."""

from __future__ import annotations

import logging
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import config
from config import Config, ConfigError, NotAllowedError
from config.annotation_names import CONFIG_PATH
from config.annotations import apply, chosen_file
from hypervisor import vsock
from hypervisor.accelerator import resolve
from hypervisor.errors import HypervisorError
from sandbox.annotations import AnnotationError, ContainerKind
from sandbox.errors import FailedPreconditionError, InvalidArgumentError, SandboxError
from sandbox.exits import Exits
from sandbox.machine import Machine
from sandbox.oci import Spec
from sandbox.phases import Phases, StartRecord
from sandbox.plan import Host, SandboxPlan, host_size, plan_sandbox
from sandbox.pod_state import PodState

if TYPE_CHECKING:
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
    if plan.cgroup is not None:
        with phases.phase("cgroup"):
            pod.enter_cgroup(plan.cgroup)
    templates = _templates(plan)
    machine = await _restored(pod, templates, phases) if templates is not None else None
    kind = "template" if machine is not None else "cold"
    if machine is None:
        machine = pod.make_machine(plan, pod.directory)
        await machine.boot(phases)
    pod.machine = machine
    pod.started = phases.record(kind)
    pod.group.start_soon(machine.watch)
    pod.group.start_soon(machine.share.serve, machine.agent.storage)
    pod.group.start_soon(machine.follow_network)
    pod.group.start_soon(machine.sizer.follow)
    pod.group.start_soon(Exits(pod).watch_oom)
    fields = {
        "sandbox": pod.identity.sandbox_id,
        "kind": kind,
        "accelerator": plan.vm.accelerator,
        **phases.fields(),
    }
    _log.info("sandbox started", extra={"fields": fields})
    _record(pod, machine, pod.started)
    if templates is not None and kind == "cold":
        pod.group.start_soon(templates.build, partial(pod.directory.record_process, "template"), pod.expel)
    return machine


def _templates(plan: SandboxPlan) -> Templates | None:
    if plan.factory is None:
        return None
    # Who does not ask for templates does not pay for them.
    from sandbox.factory.templates import Templates

    return Templates(plan, plan.factory)


async def _restored(pod: PodState, templates: Templates, phases: Phases) -> Machine | None:
    """A machine whose VM is a clone; None if there is no template, or one that is of no use, which is dropped.

    Raises `SandboxError` for what would fail with a VM that is booted too.
    """
    from sandbox.factory.clone import PHASES

    clone = templates.clone()
    if clone is None:
        return None
    machine = pod.make_machine(clone.plan, pod.directory, clone)
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
