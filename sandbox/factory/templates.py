"""The template for a pod: found before its start, and built beside the first pod that had to do without."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from agent_client.client import AgentClient
from agent_client.errors import AgentError
from hypervisor.errors import HypervisorError
from hypervisor.template.builder import build
from hypervisor.template.key import facts, template_spec
from hypervisor.template.place import home
from hypervisor.template.store import KEY_LENGTH, TemplateStore
from hypervisor.vm import OnSpawn
from protos.codec import encode
from sandbox.digest import sha256_hex
from sandbox.factory.clone import Clone
from sandbox.factory.plan import FactoryPlan, memory_way, unfit
from sandbox.plan import SandboxPlan

#: How much a template's boot gives way to the pods of the node (nice(2)).
NICENESS = 10

_log = logging.getLogger(__name__)


class Templates:
    """The templates of this node, as far as one pod is concerned."""

    def __init__(self, plan: SandboxPlan, factory: FactoryPlan) -> None:
        mounts = Path("/proc/self/mountinfo").read_text(errors="surrogateescape")
        self.store = TemplateStore(home(factory.path, mounts), sha256_hex, factory.max_age)
        self._plan = plan
        self._factory = factory
        self._base = template_spec(plan.vm, factory.size.vcpus, factory.size.memory_mib)
        #: Why this pod's VM is booted whatever templates there are; empty if it need not be.
        self.unfit = unfit(factory.memory, plan.vm)
        #: Of its template; empty if there can be none.
        self.key = "" if self.unfit else self._find_key()

    def _find_key(self) -> str:
        try:
            return sha256_hex(facts(self._base).encode())[:KEY_LENGTH]
        except HypervisorError as error:
            self.unfit = str(error)
            return ""

    def clone(self) -> Clone | None:
        """A clone for this pod; None if there is no template for it. Its own errors are log lines."""
        if self.unfit:
            _log.info("the VM is booted, not cloned: %s", self.unfit)
            return None
        template = self.store.open(self.key)
        if template is None:
            return None
        try:
            return Clone(self.store, template, self._plan, self._base, memory_way(self._factory.memory, self._plan.vm))
        except OSError as error:
            template.close()
            _log.warning("the VM is booted, not cloned: %s", error)
        except ValueError as error:
            template.close()
            self.store.drop(self.key, f"what its guest said can't be read: {error}")
        return None

    async def build(self, on_spawn: OnSpawn, record: Callable[[int], None] | None = None) -> None:
        """Build what was missing, if nobody else does, and clear old ones away; its failure is one line in the log.

        `on_spawn` gets the pids of the VMs; they are nobody's, and give way to all pods.
        """

        def spawned(pid: int) -> None:
            on_spawn(pid)
            os.setpriority(os.PRIO_PROCESS, pid, NICENESS)
            if record is not None:
                record(pid)

        began = time.monotonic()
        try:
            if self.unfit:
                self.store.sweep()
            elif await build(self.store, self.key, self._base, self._visit, spawned):
                took = f"{time.monotonic() - began:.1f}s"
                _log.info("template built", extra={"fields": {"template": self.key[:12], "took": took}})
        except (HypervisorError, AgentError, OSError) as error:
            _log.warning("no template was built: %s", error)

    async def make(self) -> bool:
        """Have the template there, for whoever asks for it by hand; returns whether it was not.

        Raises `HypervisorError` where it can't be, or somebody else is about to make it; `AgentError`.
        """
        if self.unfit:
            raise HypervisorError(self.unfit)
        self.store.retry(self.key)
        if await build(self.store, self.key, self._base, self._visit):
            return True
        if template := self.store.open(self.key):
            template.close()
            return False
        raise HypervisorError("somebody else is building a template: try again in a few seconds")

    @asynccontextmanager
    async def _visit(self, url: str) -> AsyncIterator[bytes]:
        """See that the agent works, and what it says of itself."""
        agent = await AgentClient.connect(url, timeout=self._plan.dial_timeout)
        try:
            yield encode(await agent.get_guest_details(mem_block_size=True, mem_hotplug_probe=True))
        finally:
            agent.close()
            await agent.wait_closed()
