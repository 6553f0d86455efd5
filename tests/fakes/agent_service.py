"""`grpc.AgentService` and `grpc.Health` on the plain objects of a fake agent."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

from grpclib import GRPCError
from grpclib.const import Status

from protos.gen import grpc as pb
from protos.gen import types, wellknown
from tests.fakes.agent_guest import FakeContainer, FakeProcess

if TYPE_CHECKING:
    from tests.fakes.agent import FakeAgent


class FakeHealth(pb.HealthBase):
    """`grpc.Health`."""

    async def check(self, message: pb.CheckRequest) -> pb.HealthCheckResponse:
        return pb.HealthCheckResponse(status=pb.HealthCheckResponseServingStatus.SERVING)

    async def version(self, message: pb.CheckRequest) -> pb.VersionCheckResponse:
        return pb.VersionCheckResponse(grpc_version="0.0.1", agent_version="fake-1.0")


class FakeAgentService(pb.AgentServiceBase):
    """`grpc.AgentService`, on the fake's plain objects. An RPC that is not here answers UNIMPLEMENTED."""

    def __init__(self, agent: FakeAgent) -> None:
        self.agent = agent

    # The sandbox

    async def create_sandbox(self, message: pb.CreateSandboxRequest) -> wellknown.Empty:
        if self.agent.sandbox is not None:
            raise GRPCError(Status.ALREADY_EXISTS, "the sandbox exists")
        self.agent.sandbox = message
        return wellknown.Empty()

    async def destroy_sandbox(self, message: pb.DestroySandboxRequest) -> wellknown.Empty:
        for container in self.agent.containers.values():
            self.agent.kill(container.processes, signal.SIGKILL)
        self.agent.destroyed = True
        return wellknown.Empty()

    async def get_guest_details(self, message: pb.GuestDetailsRequest) -> pb.GuestDetailsResponse:
        details = pb.AgentDetails(version="fake-1.0", init_daemon=True, supports_seccomp=True)
        details.extra_features = [] if self.agent.is_stock else ["stream-position"]
        return pb.GuestDetailsResponse(mem_block_size_bytes=128 << 20, agent_details=details)

    async def reseed_random_dev(self, message: pb.ReseedRandomDevRequest) -> wellknown.Empty:
        self.agent.entropy += message.data
        return wellknown.Empty()

    async def set_guest_date_time(self, message: pb.SetGuestDateTimeRequest) -> wellknown.Empty:
        self.agent.clock = (message.sec, message.usec)
        return wellknown.Empty()

    async def online_cpu_mem(self, message: pb.OnlineCpuMemRequest) -> wellknown.Empty:
        return wellknown.Empty()

    async def copy_file(self, message: pb.CopyFileRequest) -> wellknown.Empty:
        await self.agent.files.copy_file(
            path=message.path,
            file_size=message.file_size,
            file_mode=message.file_mode,
            dir_mode=message.dir_mode,
            uid=message.uid,
            gid=message.gid,
            offset=message.offset,
            data=message.data,
        )
        return wellknown.Empty()

    async def get_oom_event(self, message: pb.GetOomEventRequest) -> pb.OomEvent:
        return pb.OomEvent(container_id=await self.agent.next_oom())

    # Containers

    async def create_container(self, message: pb.CreateContainerRequest) -> wellknown.Empty:
        if message.container_id in self.agent.containers:
            raise GRPCError(Status.ALREADY_EXISTS, f"container {message.container_id} exists")
        process = message.oci.process if message.oci else None
        init = FakeProcess(message.container_id, message.exec_id or message.container_id, process)
        self.agent.containers[message.container_id] = FakeContainer(message, init)
        return wellknown.Empty()

    async def start_container(self, message: pb.StartContainerRequest) -> wellknown.Empty:
        init = self.agent.container(message.container_id).init
        if init.started:
            raise GRPCError(Status.FAILED_PRECONDITION, f"container {message.container_id} was started")
        self.agent.start(init, "")
        return wellknown.Empty()

    async def remove_container(self, message: pb.RemoveContainerRequest) -> wellknown.Empty:
        container = self.agent.container(message.container_id)
        self.agent.kill(container.processes, signal.SIGKILL)
        del self.agent.containers[message.container_id]
        return wellknown.Empty()

    async def update_container(self, message: pb.UpdateContainerRequest) -> wellknown.Empty:
        self.agent.container(message.container_id).resources = message.resources
        return wellknown.Empty()

    async def stats_container(self, message: pb.StatsContainerRequest) -> pb.StatsContainerResponse:
        return self.agent.container(message.container_id).stats

    async def pause_container(self, message: pb.PauseContainerRequest) -> wellknown.Empty:
        self.agent.container(message.container_id).paused = True
        return wellknown.Empty()

    async def resume_container(self, message: pb.ResumeContainerRequest) -> wellknown.Empty:
        self.agent.container(message.container_id).paused = False
        return wellknown.Empty()

    # Processes

    async def exec_process(self, message: pb.ExecProcessRequest) -> wellknown.Empty:
        container = self.agent.container(message.container_id)
        if message.exec_id in container.execs:
            raise GRPCError(Status.ALREADY_EXISTS, f"exec {message.exec_id} exists")
        process = FakeProcess(message.container_id, message.exec_id, message.process)
        self.agent.start(process, "exec")
        container.execs[message.exec_id] = process
        return wellknown.Empty()

    async def signal_process(self, message: pb.SignalProcessRequest) -> wellknown.Empty:
        # Kata 3 sends every signal without a name to all, the init's a second time.
        everyone = message.exec_id == "" and (message.signal == signal.SIGKILL or self.agent.is_stock)
        container = self.agent.container(message.container_id)
        one = self.agent.process(message.container_id, message.exec_id)
        self.agent.kill(container.processes if everyone else [one], message.signal)
        return wellknown.Empty()

    async def wait_process(self, message: pb.WaitProcessRequest) -> pb.WaitProcessResponse:
        process = self.agent.process(message.container_id, message.exec_id)
        status = await process.wait()
        # Kata's agent lets go of the process, and of its output, with the answer.
        process.forgotten = self.agent.is_stock
        return pb.WaitProcessResponse(status=status)

    async def tty_win_resize(self, message: pb.TtyWinResizeRequest) -> wellknown.Empty:
        self.agent.process(message.container_id, message.exec_id).size = (message.row, message.column)
        return wellknown.Empty()

    # Streams

    def _position(self, message: pb.ReadStreamRequest | pb.WriteStreamRequest) -> int | None:
        """A stock agent skips the field."""
        return None if self.agent.is_stock else message.position

    async def read_stdout(self, message: pb.ReadStreamRequest) -> pb.ReadStreamResponse:
        process = self.agent.process(message.container_id, message.exec_id)
        return pb.ReadStreamResponse(data=await process.stdout.read(message.len, self._position(message)))

    async def read_stderr(self, message: pb.ReadStreamRequest) -> pb.ReadStreamResponse:
        process = self.agent.process(message.container_id, message.exec_id)
        return pb.ReadStreamResponse(data=await process.stderr.read(message.len, self._position(message)))

    async def write_stdin(self, message: pb.WriteStreamRequest) -> pb.WriteStreamResponse:
        process = self.agent.process(message.container_id, message.exec_id)
        if process.stdin_closed:
            raise GRPCError(Status.FAILED_PRECONDITION, "standard input is closed")
        position = self._position(message)
        data = message.data if position is None else message.data[len(process.stdin) - position :]
        process.stdin += data
        if process.echo:
            process.stdout.write(data)
        return pb.WriteStreamResponse(len=len(message.data))

    async def close_stdin(self, message: pb.CloseStdinRequest) -> wellknown.Empty:
        process = self.agent.process(message.container_id, message.exec_id)
        process.stdin_closed = True
        if process.echo:
            process.exit(0)
        return wellknown.Empty()

    # The network

    async def update_interface(self, message: pb.UpdateInterfaceRequest) -> types.Interface:
        assert message.interface is not None
        self.agent.interfaces.append(message.interface)
        return message.interface

    async def list_interfaces(self, message: pb.ListInterfacesRequest) -> pb.Interfaces:
        return pb.Interfaces(interfaces=self.agent.interfaces)

    async def update_routes(self, message: pb.UpdateRoutesRequest) -> pb.Routes:
        self.agent.routes = list(message.routes.routes if message.routes else ())
        return pb.Routes(routes=self.agent.routes)

    async def list_routes(self, message: pb.ListRoutesRequest) -> pb.Routes:
        return pb.Routes(routes=self.agent.routes)
