"""RPCs on containers; see Kata's agent.proto for the messages."""

from __future__ import annotations

from guest.agent import names, stats
from guest.agent.errors import UnimplementedError
from guest.agent.rpc_base import AgentRpcs
from protos.lean.gen.grpc import (
    CreateContainerRequest,
    PauseContainerRequest,
    RemoveContainerRequest,
    ResumeContainerRequest,
    StartContainerRequest,
    StatsContainerRequest,
    StatsContainerResponse,
    StringUser,
    UpdateContainerRequest,
)
from protos.lean.gen.wellknown import Empty


class ContainerRpcs(AgentRpcs):
    """Create, start, remove, pause, resume, update, stats."""

    async def create_container(self, message: CreateContainerRequest) -> Empty:
        """Make a container; its init waits for StartContainer."""
        names.container_id(message.container_id)
        names.exec_id(message.exec_id)
        refuse_ports(message.stdin_port, message.stdout_port, message.stderr_port)
        refuse_string_user(message.string_user)
        if message.shared_mounts:
            raise UnimplementedError("shared mounts are not supported")
        await self.agent.work.finish(self.agent.sandbox.create_container(message))
        return Empty()

    async def start_container(self, message: StartContainerRequest) -> Empty:
        """Run the container's program."""
        await self.agent.work.finish(self.agent.containers.start(names.container_id(message.container_id)))
        return Empty()

    async def remove_container(self, message: RemoveContainerRequest) -> Empty:
        """Kill what runs and take the container away; `timeout` is in seconds."""
        container_id = names.container_id(message.container_id)
        await self.agent.work.finish(self.agent.containers.remove(container_id, message.timeout))
        return Empty()

    async def pause_container(self, message: PauseContainerRequest) -> Empty:
        """Freeze all processes."""
        await self.agent.work.finish(self.agent.containers.pause(names.container_id(message.container_id)))
        return Empty()

    async def resume_container(self, message: ResumeContainerRequest) -> Empty:
        """Thaw all processes."""
        await self.agent.work.finish(self.agent.containers.resume(names.container_id(message.container_id)))
        return Empty()

    async def update_container(self, message: UpdateContainerRequest) -> Empty:
        """Set new limits."""
        container_id = names.container_id(message.container_id)
        cpus = self.agent.sandbox.online_cpus()
        await self.agent.work.finish(self.agent.containers.update(container_id, message.resources, cpus))
        return Empty()

    async def stats_container(self, message: StatsContainerRequest) -> StatsContainerResponse:
        """What the cgroup and the guest's links have counted."""
        container = self.agent.containers.get(names.container_id(message.container_id))
        return StatsContainerResponse(
            cgroup_stats=stats.cgroup_stats(container.cgroup),
            network_stats=stats.network_stats(_text(f"{self.agent.layout.proc}/net/dev")),
        )


def refuse_ports(*ports: int) -> None:
    """Streams over vsock ports of their own are not served."""
    if any(ports):
        raise UnimplementedError("stdio over vsock ports is not supported")


def refuse_string_user(user: StringUser | None) -> None:
    """Users by name, which the guest would look up, come with images pulled in the guest."""
    if user is not None and (user.uid or user.gid or user.additional_gids):
        raise UnimplementedError("users by name are not supported")


def _text(path: str) -> str:
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return file.read(1 << 16)
    except OSError:
        return ""
