"""The pod's VM from configuration to an answering agent, and what runs beside it from then on."""

from __future__ import annotations

import logging
from pathlib import Path

from config import Config, ConfigError
from hypervisor import vsock
from hypervisor.accelerator import resolve
from hypervisor.errors import HypervisorError
from sandbox.annotations import AnnotationError, ContainerKind
from sandbox.errors import InvalidArgumentError
from sandbox.exits import Exits
from sandbox.machine import Machine
from sandbox.oci import Spec
from sandbox.phases import Phases
from sandbox.plan import Host, SandboxPlan, host_size, plan_sandbox
from sandbox.pod_state import PodState

_log = logging.getLogger(__name__)


def make_plan(pod: PodState, spec: Spec, kind: ContainerKind, config_path: Path | None) -> SandboxPlan:
    """The plan for a pod whose first container has `spec`; `config_path` is what its own options name, if they do.

    Raises `InvalidArgumentError` for a configuration or an annotation that makes no sense.
    """
    try:
        settings = _load_config(pod, config_path)
        host = Host(host_size(), resolve(settings.hypervisor.accelerator), vsock.available())
        return plan_sandbox(settings, spec, kind, pod.identity.sandbox_id, pod.directory.path, host)
    except (ConfigError, AnnotationError, HypervisorError) as error:
        raise InvalidArgumentError(str(error)) from error


def _load_config(pod: PodState, config_path: Path | None) -> Config:
    settings = pod.load_config(config_path or pod.identity.config_path)
    for warning in settings.ignored:
        _log.warning("configuration: %s", warning)
    return settings


async def bring_up(pod: PodState, plan: SandboxPlan, phases: Phases) -> Machine:
    """Boot the VM, have it be the pod's, and watch over it from now on; raises `SandboxError`, and nothing is left."""
    machine = pod.make_machine(plan, pod.directory)
    await machine.boot(phases)
    pod.machine = machine
    pod.group.start_soon(machine.watch)
    pod.group.start_soon(machine.share.serve, machine.agent.storage)
    pod.group.start_soon(Exits(pod).watch_oom)
    fields = {
        "sandbox": pod.identity.sandbox_id,
        "kind": "cold",
        "accelerator": plan.vm.accelerator,
        **phases.fields(),
    }
    _log.info("sandbox started", extra={"fields": fields})
    return machine
