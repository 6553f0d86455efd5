"""The program behind `kata-ctl factory init`: builds a configuration's template, as the first pod would."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import anyio

import config
from agent_client.errors import AgentError
from config import Config, ConfigError
from hypervisor import vsock
from hypervisor.accelerator import resolve
from hypervisor.errors import HypervisorError
from sandbox.annotations import ContainerKind
from sandbox.errors import SandboxError
from sandbox.factory.templates import Templates
from sandbox.oci import Linux, Namespace, Root, Spec
from sandbox.plan import Host, host_size, plan_sandbox


class FactoryError(Exception):
    """One line about why there is no template."""


def main(arguments: Sequence[str]) -> NoReturn:
    """Build the template of the file that is named, or else of the host's; status 1 after one line about a failure."""
    try:
        settings = config.load(Path(arguments[0]) if arguments else None)
        key, is_new = anyio.run(make, settings)
    except (AgentError, ConfigError, FactoryError, HypervisorError, SandboxError, OSError) as error:
        print(f"kata-ctl: no template was built: {error}", file=sys.stderr)
        sys.exit(1)
    print(f"template {key} {'is built' if is_new else 'was there already'}")
    sys.exit(0)


async def make(settings: Config) -> tuple[str, bool]:
    """The key of the template, and whether it was not there before. Raises what `main` tells of."""
    templates = templates_of(settings)
    return templates.key, await templates.make()


def templates_of(settings: Config) -> Templates:
    """Those of a pod that asks for nothing of its own, which any pod's are where VMs can grow."""
    host = Host(host_size(), resolve(settings.hypervisor.accelerator), vsock.available())
    spec = Spec(root=Root("rootfs"), linux=Linux(namespaces=[Namespace("network")]))
    plan = plan_sandbox(settings, spec, ContainerKind.SINGLE, "template", Path("/run"), host)
    if plan.factory is None:
        raise FactoryError(f"enable_template is not set in [factory] of {settings.source}")
    return Templates(plan, plan.factory)
