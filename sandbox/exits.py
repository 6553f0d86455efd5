"""What happens when a process ends: statistics kept, OOM told first, the right order of exits, the pod's own end."""

from __future__ import annotations

import logging
from functools import partial

import anyio

from agent_client.errors import AgentError
from agent_client.streams import repeated
from protos.gen.containerd import events as events_pb
from sandbox.container import Container
from sandbox.errors import UnavailableError
from sandbox.pod_state import PodState
from sandbox.process import Process
from sandbox.runner import EXIT_KILLED, run_process

#: How long the end of init waits for the ends of its execs, and the end of the pod for those of its containers.
ORDER_TIMEOUT = 2.0
#: How long the guest may take for the last statistics of a container.
LAST_STATS_TIMEOUT = 1.0
#: How long an OOM event that tells nothing new holds up the next one, in seconds.
OOM_PAUSE = 0.1

_log = logging.getLogger(__name__)


class Exits:
    """Follows the processes of one pod to their ends."""

    def __init__(self, pod: PodState) -> None:
        self._pod = pod

    async def follow(self, container: Container, process: Process) -> None:
        """Stay with a process that the guest has, until its streams are closed."""
        machine = self._pod.machine
        if machine is None or process.stdio is None:
            return
        try:
            agent = machine.agent
        except UnavailableError:
            await self._ended(container, process, EXIT_KILLED)
            return
        await run_process(process, agent, process.stdio, partial(self._ended, container, process))

    async def _ended(self, container: Container, process: Process, status: int) -> None:
        if process is container.init:
            await self._before_init(container, status)
        async with process.moving:
            process.exited(self._pod.vm_pid, status, self._pod.publish)
        if process is container.init and container.id == self._pod.root_id:
            self._pod.group.start_soon(self._end_of_pod)

    async def _before_init(self, container: Container, status: int) -> None:
        await self._keep_stats(container)
        if status == EXIT_KILLED and _oom_kills(container):
            self.publish_oom(container)
        others = []
        if container.id == self._pod.root_id and self._pod.is_lost:
            others = [item.init for item in self._pod.containers.values() if item is not container]
        with anyio.move_on_after(ORDER_TIMEOUT):
            for exec_ in list(container.execs.values()):
                await exec_.settled()
            for item in others:
                await item.wait()
        # An exec that was never started never can be: whoever waits for it is told, and no event is.
        for exec_ in list(container.execs.values()):
            exec_.exited(self._pod.vm_pid, EXIT_KILLED, self._pod.publish)

    async def _keep_stats(self, container: Container) -> None:
        try:
            if self._pod.machine:
                agent = self._pod.machine.agent
                container.last_stats = await agent.stats_container(container.id, timeout=LAST_STATS_TIMEOUT)
        except (AgentError, UnavailableError) as error:
            _log.debug("no last statistics of container %s: %s", container.id, error)

    def publish_oom(self, container: Container) -> None:
        """Tell, once for each container, that the guest's kernel killed a process of it for want of memory."""
        if not container.oom_published:
            container.oom_published = True
            self._pod.publish(events_pb.TaskOom(container_id=container.id))

    async def _end_of_pod(self) -> None:
        _log.info("the sandbox' own process has ended, its VM goes")
        if self._pod.machine:
            with anyio.CancelScope(shield=True):
                await self._pod.machine.close()

    async def watch_oom(self) -> None:
        """Publish the guest's OOM events until the machine is lost, or the agent has none to give.

        One whose answer is lost with a connection is found in the container's statistics when it ends.
        """
        while self._pod.machine and not self._pod.is_lost:
            try:
                agent = self._pod.machine.agent
                container_id = await repeated(agent, agent.get_oom_event)
            except (AgentError, UnavailableError) as error:
                _log.debug("no more OOM events: %s", error)
                return
            container = self._pod.containers.get(container_id)
            if container and not container.oom_published:
                self.publish_oom(container)
            else:
                # A guest has nothing new to say of it, however often it says so.
                await anyio.sleep(OOM_PAUSE)


def _oom_kills(container: Container) -> int:
    stats = container.last_stats
    memory = stats.cgroup_stats.memory_stats if stats and stats.cgroup_stats else None
    return memory.stats.get("memory.events.oom_kill", 0) if memory else 0
