"""RPCs on the sandbox and the guest as a whole; see Kata's agent.proto for the messages."""

from __future__ import annotations

from guest.agent import copyfile, details, diagnostics, hotplug, identity
from guest.agent.names import container_id
from guest.agent.rpc_base import AgentRpcs
from protos.lean.gen.grpc import (
    CopyFileRequest,
    CreateSandboxRequest,
    DestroySandboxRequest,
    GetDiagnosticDataRequest,
    GetDiagnosticDataResponse,
    GetMetricsRequest,
    GetOomEventRequest,
    GuestDetailsRequest,
    GuestDetailsResponse,
    Metrics,
    OnlineCpuMemRequest,
    OomEvent,
    ReseedRandomDevRequest,
    SetGuestDateTimeRequest,
)
from protos.lean.gen.wellknown import Empty


class SandboxRpcs(AgentRpcs):
    """Sandbox, hot-plug, identity, files, and what can be learnt of the guest."""

    async def create_sandbox(self, message: CreateSandboxRequest) -> Empty:
        """Set the pod up; AlreadyExists the second time."""
        await self.agent.work.finish(self.agent.sandbox.create(message))
        return Empty()

    async def destroy_sandbox(self, message: DestroySandboxRequest) -> Empty:
        """Take everything away; the machine ends after the answer."""
        try:
            await self.agent.work.finish(self.agent.sandbox.destroy())
        finally:
            self.agent.oom.end()
            self.agent.stopping.set()
        return Empty()

    async def online_cpu_mem(self, message: OnlineCpuMemRequest) -> Empty:
        """Use CPUs and memory that were plugged in."""
        timeout = self.agent.options.hotplug_timeout
        sys, most = self.agent.layout.sys, message.most_cpus
        if most is None:
            await hotplug.online_all(sys, message.nb_cpus, message.wait, message.cpu_only, timeout)
        elif message.nb_cpus:
            await hotplug.online(sys, message.nb_cpus, message.wait, message.cpu_only, timeout)
        elif not message.cpu_only:
            hotplug.online_memory(sys)
        if most is not None:
            hotplug.offline_cpus(sys, most)
        return Empty()

    async def reseed_random_dev(self, message: ReseedRandomDevRequest) -> Empty:
        """Mix the host's random bytes into the kernel's, and begin anew with what was drawn before."""
        identity.reseed(message.data)
        identity.forget_drawn()
        return Empty()

    async def set_guest_date_time(self, message: SetGuestDateTimeRequest) -> Empty:
        """Set the wall clock."""
        identity.set_clock(message.sec, message.usec)
        return Empty()

    async def copy_file(self, message: CopyFileRequest) -> Empty:
        """Take one chunk of a file, a directory or a link into the shared tree."""
        copyfile.copy_file(message, self.agent.layout)
        return Empty()

    async def get_guest_details(self, message: GuestDetailsRequest) -> GuestDetailsResponse:
        """What the agent is and can."""
        return details.guest_details(self.agent.layout, message.mem_block_size, message.mem_hotplug_probe)

    async def get_oom_event(self, message: GetOomEventRequest) -> OomEvent:
        """Wait for the next out-of-memory kill in a container."""
        return OomEvent(container_id=await self.agent.oom.next_event())

    async def get_metrics(self, message: GetMetricsRequest) -> Metrics:
        """Prometheus' text."""
        from guest.agent import metrics

        self.agent.scrapes += 1
        return Metrics(metrics=metrics.render(self.agent.scrapes, self.agent.layout.proc))

    async def get_diagnostic_data(self, message: GetDiagnosticDataRequest) -> GetDiagnosticDataResponse:
        """A container's termination message or processes, or the agent's last log lines."""
        kind = diagnostics.kind_of(message.log_type)
        if kind == diagnostics.AGENT_LOG:
            return GetDiagnosticDataResponse(data=diagnostics.agent_log(self.agent.console.lines))
        container = self.agent.containers.get(container_id(message.container_id))
        if kind == diagnostics.PROCESSES:
            return GetDiagnosticDataResponse(data=diagnostics.process_list(container, self.agent.layout.proc))
        return GetDiagnosticDataResponse(data=diagnostics.termination_message(container.config, self.agent.layout))
