"""The client of one guest's agent: a method per RPC of `grpc.AgentService` and `grpc.Health` (Kata 4.1).

The sandbox, its containers, their processes and streams are methods of `AgentClient`; what is asked for less often is
in groups: `client.network`, `client.storage`, `client.upkeep`. Every method raises `AgentError` and nothing else, and
takes `timeout` in seconds (None: no limit; see `agent_client.deadlines`). Messages are those of `protos.gen.grpc`;
what comes back in them is the guest's word and no more.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from grpclib.const import Status
from grpclib.exceptions import GRPCError

from agent_client import address, deadlines, features
from agent_client.call import Caller, refuse
from agent_client.dial import DialError, dial
from agent_client.errors import AgentError, fold
from agent_client.line import Line
from agent_client.network import Network
from agent_client.ports import Ports
from agent_client.storage import Storages
from agent_client.upkeep import Upkeep
from protos.codec import MessageCodec
from protos.gen import grpc as pb
from ttrpc.client import Channel

#: A container's id has at most this many characters (containerd allows 76, Kata's execs use 36).
_LONGEST_ID = 256


class AgentClient:
    """One agent, over one connection at a time. It is connected when made; once closed it is of no use.

    Any number of calls may be under way at the same time; those that are when the connection goes fail with an
    `AgentError` whose `lost` is true: they may have taken effect. Later calls fail so too, or wait for `reconnect` if
    `patience` says how long.
    """

    def __init__(self, channel: Channel, url: str) -> None:
        self.url = url
        #: The connection and its successors.
        self.line = Line(channel)
        #: Whether the agent knows positions in streams, so that reads and writes may be repeated, and keeps output that
        #: nobody has read when its process has ended; told by `get_guest_details`.
        self.knows_positions = False
        #: Whether the agent takes CPUs offline; told by `get_guest_details`.
        self.sets_cpus_offline = False
        # The stubs are typed for grpclib's channel, whose interface ours has.
        self._agent = pb.AgentServiceStub(self.line)  # type: ignore[arg-type]
        self._health = pb.HealthStub(self.line)  # type: ignore[arg-type]
        self._call = Caller(self.line, lambda seconds: self._health.check(pb.CheckRequest(), timeout=seconds))
        #: Interfaces, routes, neighbours and packet filters of the guest.
        self.network = Network(self._call, self._agent)
        #: Connections to the guest's loopback.
        self.ports = Ports(self._call, pb.PortsStub(self.line))  # type: ignore[arg-type]
        #: Files, volumes, mounts and swap of the guest.
        self.storage = Storages(self._call, self._agent)
        #: Memory, metrics, diagnosis and policy of the guest.
        self.upkeep = Upkeep(self._call, self._agent)

    @classmethod
    async def connect(cls, url: str, *, timeout: float) -> AgentClient:
        """Reach the agent at `url` (see `agent_client.address`) and see that it serves, within `timeout` seconds.

        Raises `AgentError` with the rpc "connect" that says how far it got; ValueError for what is not an agent URL.
        """
        where = address.parse(url)
        loop = asyncio.get_running_loop()
        end = loop.time() + timeout
        try:
            sock = await dial(where, timeout)
        except DialError as error:
            code = Status.DEADLINE_EXCEEDED if error.timed_out else Status.UNAVAILABLE
            raise AgentError("connect", code, str(error), lost=not error.timed_out) from error
        client = cls(await Channel.over_socket(sock, MessageCodec()), url)
        try:
            await client.check(timeout=max(0.0, end - loop.time()))
        except AgentError as error:
            client.close()
            raise AgentError("connect", error.code, f"{where}: {error}", lost=error.lost) from error
        except BaseException:
            client.close()
            raise
        return client

    async def reconnect(self, *, timeout: float) -> None:
        """Connect again in place of a lost connection, within `timeout` seconds; calls then go on.

        Raises `AgentError` as `connect` does; the client is as before then. The agent must be the same one: what it
        knew of sandbox, containers and processes is not told again.
        """
        end = asyncio.get_running_loop().time() + timeout
        fresh = await AgentClient.connect(self.url, timeout=timeout)
        try:
            left = max(0.0, end - asyncio.get_running_loop().time())
            details = await fresh.get_guest_details(mem_block_size=False, mem_hotplug_probe=False, timeout=left)
        except BaseException:
            fresh.close()
            raise
        self.learn(details)
        self.line.replace(fresh.line.channel)

    async def restored(self) -> bool:
        """After an error that says `lost`: whether there is a connection again, waiting for it as calls do."""
        try:
            await self.line.up()
        except GRPCError:
            return False
        return True

    @property
    def closed(self) -> bool:
        """Whether there is no connection now."""
        return not self.line.is_up

    def close(self) -> None:
        """Close the connection, for good; what is under way fails. Idempotent."""
        self.line.close()

    async def wait_closed(self) -> None:
        """Return once the connection is closed or lost."""
        await self.line.lost()

    # Health

    async def check(self, *, timeout: float | None = deadlines.CHECK) -> None:
        """Return if the agent serves."""
        reply = await self._call("Check", self._health.check, pb.CheckRequest(), timeout)
        if reply.status is not pb.HealthCheckResponseServingStatus.SERVING:
            raise AgentError("Check", Status.UNAVAILABLE, f"the agent does not serve, its status is {reply.status!r}")

    async def version(self, *, timeout: float | None = deadlines.CHECK) -> tuple[str, str]:
        """The versions of the protocol and of the agent, each one printable line."""
        reply = await self._call("Version", self._health.version, pb.CheckRequest(), timeout)
        return fold(reply.grpc_version), fold(reply.agent_version)

    # The sandbox

    async def create_sandbox(
        self,
        *,
        sandbox_id: str,
        hostname: str = "",
        dns: Iterable[str] = (),
        storages: Iterable[pb.Storage] = (),
        sandbox_pidns: bool = False,
        guest_hook_path: str = "",
        kernel_modules: Iterable[pb.KernelModule] = (),
        timeout: float | None = deadlines.REQUEST,
    ) -> None:
        """Make the guest a pod: hostname, shared namespaces, mounts that all containers share, resolv.conf lines.

        `sandbox_pidns`: containers may share one PID namespace. Once per guest: a second is ALREADY_EXISTS.
        """
        request = pb.CreateSandboxRequest(
            hostname=hostname,
            dns=list(dns),
            storages=list(storages),
            sandbox_pidns=sandbox_pidns,
            sandbox_id=sandbox_id,
            guest_hook_path=guest_hook_path,
            kernel_modules=list(kernel_modules),
        )
        await self._call("CreateSandbox", self._agent.create_sandbox, request, timeout)

    async def destroy_sandbox(self, *, timeout: float | None = deadlines.REQUEST) -> None:
        """End all containers and the agent; an agent that is PID 1 then powers the guest off."""
        await self._call("DestroySandbox", self._agent.destroy_sandbox, pb.DestroySandboxRequest(), timeout)

    async def get_guest_details(
        self,
        *,
        mem_block_size: bool = True,
        mem_hotplug_probe: bool = True,
        timeout: float | None = deadlines.REQUEST,
    ) -> pb.GuestDetailsResponse:
        """What the guest can do: the agent's version and handlers and, if asked for, how memory is plugged in."""
        request = pb.GuestDetailsRequest(mem_block_size=mem_block_size, mem_hotplug_probe=mem_hotplug_probe)
        details = await self._call("GetGuestDetails", self._agent.get_guest_details, request, timeout)
        self.learn(details)
        return details

    def learn(self, details: pb.GuestDetailsResponse) -> None:
        """Take what an agent says of itself in place of asking this one, which would say the same."""
        told = (details.agent_details or pb.AgentDetails()).extra_features
        self.knows_positions = features.POSITION in told
        self.sets_cpus_offline, self.ports.are_served = features.OFFLINE in told, features.PORTS in told

    async def set_guest_date_time(self, time_ns: int, *, timeout: float | None = deadlines.REQUEST) -> None:
        """Set the guest's clock; `time_ns` is in nanoseconds since the epoch, the protocol has microseconds."""
        seconds, rest = divmod(time_ns, 1_000_000_000)
        request = pb.SetGuestDateTimeRequest(sec=seconds, usec=rest // 1000)
        await self._call("SetGuestDateTime", self._agent.set_guest_date_time, request, timeout)

    async def reseed_random_dev(self, data: bytes, *, timeout: float | None = deadlines.REQUEST) -> None:
        """Mix `data` into the guest's random pool as entropy, and reseed its generator."""
        request = pb.ReseedRandomDevRequest(data=data)
        await self._call("ReseedRandomDev", self._agent.reseed_random_dev, request, timeout)

    async def online_cpu_mem(
        self,
        nb_cpus: int,
        *,
        wait: bool = False,
        cpu_only: bool = False,
        most_cpus: int | None = None,
        timeout: float | None = deadlines.REQUEST,
    ) -> None:
        """Bring `nb_cpus` plugged CPUs online and, unless `cpu_only`, all plugged memory.

        `wait`: answer once that many CPUs are online, not when it was tried. `most_cpus`: how many are online then; if
        `sets_cpus_offline`, those beyond it are taken offline. Kata's agent is told that number in place of the new
        ones: it counts all CPUs that are to be online (since 3.2).
        """
        most = most_cpus if self.sets_cpus_offline else None
        count = most_cpus if nb_cpus and most_cpus and most is None else nb_cpus
        request = pb.OnlineCpuMemRequest(wait=wait, nb_cpus=count, cpu_only=cpu_only, most_cpus=most)
        await self._call("OnlineCPUMem", self._agent.online_cpu_mem, request, timeout)

    async def get_oom_event(self, *, timeout: float | None = deadlines.UNLIMITED) -> str:
        """Wait for the guest's kernel to kill a container's process for want of memory; the container's id."""
        reply = await self._call("GetOOMEvent", self._agent.get_oom_event, pb.GetOomEventRequest(), timeout)
        if len(reply.container_id) > _LONGEST_ID:
            raise refuse("GetOOMEvent", f"a container id of {len(reply.container_id)} characters")
        return fold(reply.container_id)

    # Containers

    async def create_container(
        self,
        *,
        container_id: str,
        oci: pb.Spec,
        exec_id: str = "",
        string_user: pb.StringUser | None = None,
        devices: Iterable[pb.Device] = (),
        storages: Iterable[pb.Storage] = (),
        sandbox_pidns: bool = False,
        shared_mounts: Iterable[pb.SharedMount] = (),
        timeout: float | None = deadlines.CREATE_CONTAINER,
    ) -> None:
        """Make a container up to the point where its init waits for `start_container`.

        `exec_id` names the init process and is the container's id where not given, as with Kata. `devices` and
        `storages` are waited for, mapped and mounted first. `sandbox_pidns`: join the pod's PID namespace.
        """
        request = pb.CreateContainerRequest(
            container_id=container_id,
            exec_id=exec_id or container_id,
            string_user=string_user,
            devices=list(devices),
            storages=list(storages),
            oci=oci,
            sandbox_pidns=sandbox_pidns,
            shared_mounts=list(shared_mounts),
        )
        await self._call("CreateContainer", self._agent.create_container, request, timeout)

    async def start_container(self, container_id: str, *, timeout: float | None = deadlines.REQUEST) -> None:
        """Run the init of a container that was made."""
        request = pb.StartContainerRequest(container_id=container_id)
        await self._call("StartContainer", self._agent.start_container, request, timeout)

    async def remove_container(
        self, container_id: str, seconds: int = 0, *, timeout: float | None = deadlines.REQUEST
    ) -> None:
        """End what still runs in a container, unmount its storages and forget it.

        `seconds` is how long the agent itself may take; 0 leaves it without a limit of its own.
        """
        request = pb.RemoveContainerRequest(container_id=container_id, timeout=seconds)
        await self._call("RemoveContainer", self._agent.remove_container, request, timeout)

    async def update_container(
        self, container_id: str, resources: pb.LinuxResources, *, timeout: float | None = deadlines.REQUEST
    ) -> None:
        """Set a container's limits in the guest's cgroup."""
        request = pb.UpdateContainerRequest(container_id=container_id, resources=resources)
        await self._call("UpdateContainer", self._agent.update_container, request, timeout)

    async def stats_container(
        self, container_id: str, *, timeout: float | None = deadlines.REQUEST
    ) -> pb.StatsContainerResponse:
        """What the guest's cgroup of a container counts, and the guest's interfaces."""
        request = pb.StatsContainerRequest(container_id=container_id)
        return await self._call("StatsContainer", self._agent.stats_container, request, timeout)

    async def pause_container(self, container_id: str, *, timeout: float | None = deadlines.REQUEST) -> None:
        """Freeze all processes of a container."""
        request = pb.PauseContainerRequest(container_id=container_id)
        await self._call("PauseContainer", self._agent.pause_container, request, timeout)

    async def resume_container(self, container_id: str, *, timeout: float | None = deadlines.REQUEST) -> None:
        """Thaw them."""
        request = pb.ResumeContainerRequest(container_id=container_id)
        await self._call("ResumeContainer", self._agent.resume_container, request, timeout)

    # Processes. An `exec_id` names an exec; the init process goes by the id it was created with, or by "".

    async def exec_process(
        self,
        *,
        container_id: str,
        exec_id: str,
        process: pb.Process,
        string_user: pb.StringUser | None = None,
        timeout: float | None = deadlines.REQUEST,
    ) -> None:
        """Run a further process in a container, at once."""
        request = pb.ExecProcessRequest(
            container_id=container_id, exec_id=exec_id, string_user=string_user, process=process
        )
        await self._call("ExecProcess", self._agent.exec_process, request, timeout)

    async def signal_process(
        self, container_id: str, exec_id: str, signal: int, *, timeout: float | None = deadlines.REQUEST
    ) -> None:
        """Send a signal, by number. An empty `exec_id` with SIGKILL means every process of the container."""
        request = pb.SignalProcessRequest(container_id=container_id, exec_id=exec_id, signal=signal)
        await self._call("SignalProcess", self._agent.signal_process, request, timeout)

    async def wait_process(
        self, container_id: str, exec_id: str, *, timeout: float | None = deadlines.UNLIMITED
    ) -> int:
        """Wait for the end of a process; its status is any number that the guest likes to give."""
        request = pb.WaitProcessRequest(container_id=container_id, exec_id=exec_id)
        return (await self._call("WaitProcess", self._agent.wait_process, request, timeout)).status

    async def tty_win_resize(
        self, container_id: str, exec_id: str, rows: int, columns: int, *, timeout: float | None = deadlines.REQUEST
    ) -> None:
        """Set the size of a process' terminal, in characters."""
        request = pb.TtyWinResizeRequest(container_id=container_id, exec_id=exec_id, row=rows, column=columns)
        await self._call("TtyWinResize", self._agent.tty_win_resize, request, timeout)

    # Streams

    async def read_stdout(
        self,
        container_id: str,
        exec_id: str,
        length: int,
        *,
        position: int | None = None,
        timeout: float | None = deadlines.UNLIMITED,
    ) -> bytes:
        """Wait for output, at most `length` bytes of it; empty at its end.

        `position`: how many bytes of this output have been received (see `agent_client.streams`).
        """
        request = pb.ReadStreamRequest(container_id=container_id, exec_id=exec_id, len=length, position=position)
        return _bounded("ReadStdout", await self._call("ReadStdout", self._agent.read_stdout, request, timeout), length)

    async def read_stderr(
        self,
        container_id: str,
        exec_id: str,
        length: int,
        *,
        position: int | None = None,
        timeout: float | None = deadlines.UNLIMITED,
    ) -> bytes:
        """As `read_stdout`."""
        request = pb.ReadStreamRequest(container_id=container_id, exec_id=exec_id, len=length, position=position)
        return _bounded("ReadStderr", await self._call("ReadStderr", self._agent.read_stderr, request, timeout), length)

    async def write_stdin(
        self,
        container_id: str,
        exec_id: str,
        data: bytes,
        *,
        position: int | None = None,
        timeout: float | None = deadlines.REQUEST,
    ) -> int:
        """Write input; how many bytes of it were taken, at least one. Empty `data` ends the input, as with Kata.

        `position`: how many bytes of input were taken before these (see `agent_client.streams`).
        """
        request = pb.WriteStreamRequest(container_id=container_id, exec_id=exec_id, data=data, position=position)
        taken = (await self._call("WriteStdin", self._agent.write_stdin, request, timeout)).len
        if taken > len(data) or (data and not taken):
            raise refuse("WriteStdin", f"{taken} bytes taken of {len(data)}")
        return taken

    async def close_stdin(self, container_id: str, exec_id: str, *, timeout: float | None = deadlines.REQUEST) -> None:
        """End the input of a process."""
        request = pb.CloseStdinRequest(container_id=container_id, exec_id=exec_id)
        await self._call("CloseStdin", self._agent.close_stdin, request, timeout)


def _bounded(rpc: str, reply: pb.ReadStreamResponse, length: int) -> bytes:
    if len(reply.data) > length:
        raise refuse(rpc, f"{len(reply.data)} bytes read where at most {length} were asked for")
    return reply.data
