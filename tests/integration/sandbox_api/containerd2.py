"""containerd 2.x's part, played by the tests: its `start`, and the calls of its sandbox controller and its CRI plugin.

The order and the arguments are those of containerd's shim sandbox controller: `start` in a bundle without a
config.json, one connection for the sandbox, one more for each container.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from protos import anys
from protos.codec import MessageCodec, encode
from protos.gen.containerd.runtime.sandbox import v1
from protos.gen.containerd.task.v2 import TaskStub
from protos.gen.runtime.v1 import (
    DnsConfig,
    LinuxPodSandboxConfig,
    PodSandboxConfig,
    PodSandboxMetadata,
)
from protos.gen.wellknown import Any as AnyMessage
from protos.lean.gen import wellknown
from protos.lean.gen.containerd_runtime_bootstrap_v1 import BootstrapParams, BootstrapResult, Extension
from tests.harness.shim_binary import socket_of
from tests.integration.faults.direct import BOOT_TIMEOUT, CALL_TIMEOUT, Direct
from ttrpc.client import Channel

#: Seconds that the pod's end may take to be told.
PATIENCE = 60.0

HOSTNAME = "web"


@dataclass(frozen=True)
class Started:
    """What `start` answered, as each containerd reads it."""

    address: str
    version: int


class Containerd2:
    """One containerd 2.x, without containerd."""

    def __init__(self, direct: Direct, netns: Path) -> None:
        self.direct = direct
        self.netns = netns

    def start_22(self, sandbox: str) -> Started:
        """`start` of 2.0 to 2.2: the runtime's options as `Any`, a plain address."""
        options = encode(self.direct.options)
        self.direct.bundle(sandbox, None)
        return Started(self._run(sandbox, options).decode().strip(), 2)

    def start_23(self, sandbox: str) -> Started:
        """`start` of 2.3 and later: bootstrap parameters, and a result that is a message, too."""
        packed = self.direct.options
        params = BootstrapParams(
            instance_id=sandbox,
            namespace=self.direct.shim.namespace,
            containerd_version="2.3.4",
            containerd_ttrpc_address=f"{self.direct.shim.containerd}.ttrpc",
            containerd_grpc_address=str(self.direct.shim.containerd),
            extensions=[Extension(value=wellknown.Any(type_url=packed.type_url, value=bytes(packed.value)))],
        )
        self.direct.bundle(sandbox, None)
        result = BootstrapResult.FromString(self._run(sandbox, params.SerializeToString()))
        assert result.protocol == "ttrpc"
        return Started(result.address, result.version)

    def _run(self, sandbox: str, stdin: bytes) -> bytes:
        self.direct.will_sweep(sandbox)
        bundle = self.direct.directory / sandbox
        return self.direct.shim.start(sandbox, bundle, options=stdin).check().stdout

    def create_request(self, sandbox: str, **fields: Any) -> v1.CreateSandboxRequest:
        """What CRI's plugin has the controller ask for a pod; `fields` replace its own."""
        config = PodSandboxConfig(
            metadata=PodSandboxMetadata(name=HOSTNAME, uid="u1", namespace="default"),
            hostname=HOSTNAME,
            dns_config=DnsConfig(servers=["192.0.2.53"], searches=["svc.example"]),
            linux=LinuxPodSandboxConfig(sysctls={"net.ipv4.ip_unprivileged_port_start": "77"}),
        )
        base: dict[str, Any] = {
            "sandbox_id": sandbox,
            "bundle_path": str(self.direct.directory / sandbox),
            "options": anys.pack(config),
            "netns_path": str(self.netns),
        }
        return v1.CreateSandboxRequest(**(base | fields))


class Sandbox:
    """A connection to a sandbox' shim, as the controller has one."""

    def __init__(self, sandbox_id: str, channel: Any) -> None:
        self.id = sandbox_id
        self.service = v1.SandboxStub(channel)
        self.task = TaskStub(channel)

    async def create(self, request: v1.CreateSandboxRequest) -> None:
        """CreateSandbox."""
        await self.service.create_sandbox(request, timeout=CALL_TIMEOUT)

    async def start(self) -> v1.StartSandboxResponse:
        """StartSandbox."""
        return await self.service.start_sandbox(v1.StartSandboxRequest(sandbox_id=self.id), timeout=BOOT_TIMEOUT)

    async def status(self, verbose: bool = False) -> v1.SandboxStatusResponse:
        """SandboxStatus."""
        request = v1.SandboxStatusRequest(sandbox_id=self.id, verbose=verbose)
        return await self.service.sandbox_status(request, timeout=CALL_TIMEOUT)

    async def update(self, memory: int, **annotations: str) -> None:
        """UpdateSandbox to so many bytes of memory for the containers together."""
        value = json.dumps({"memory": {"limit": memory}}).encode()
        limits = AnyMessage(type_url=anys.LINUX_RESOURCES_URL, value=value)
        request = v1.UpdateSandboxRequest(sandbox_id=self.id, resources=limits, annotations=annotations)
        await self.service.update_sandbox(request, timeout=PATIENCE)

    async def wait(self) -> v1.WaitSandboxResponse:
        """WaitSandbox."""
        return await self.service.wait_sandbox(v1.WaitSandboxRequest(sandbox_id=self.id), timeout=PATIENCE)

    async def stop(self, seconds: int = 0) -> None:
        """StopSandbox."""
        request = v1.StopSandboxRequest(sandbox_id=self.id, timeout_secs=seconds)
        await self.service.stop_sandbox(request, timeout=PATIENCE)

    async def shut_down(self) -> None:
        """ShutdownSandbox."""
        await self.service.shutdown_sandbox(v1.ShutdownSandboxRequest(sandbox_id=self.id), timeout=CALL_TIMEOUT)


@asynccontextmanager
async def connect(sandbox_id: str, address: str) -> AsyncIterator[Sandbox]:
    """A connection to the shim at an address that `start` printed."""
    channel = await Channel.connect_unix(socket_of(address), MessageCodec(), timeout=10)
    try:
        yield Sandbox(sandbox_id, channel)
    finally:
        channel.close()
        await channel.wait_closed()
