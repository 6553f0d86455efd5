"""A client of containerd's CRI (runtime.v1 over gRPC on its UNIX socket): what kubelet does, in a few calls."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from grpclib.client import Channel
from grpclib.exceptions import GRPCError

from protos.gen.runtime import v1 as api
from tests.harness.crilog import LogLine, read_log
from tests.harness.images import BUSYBOX
from tests.harness.runtimes import KATA, Runtime
from tests.harness.waiting import eventually_async

#: kubelet's patience for RunPodSandbox, in seconds.
RUN_POD_TIMEOUT = 240.0

#: kubelet's patience for every other call, in seconds.
CALL_TIMEOUT = 120.0


@dataclass(frozen=True)
class Pod:
    """A pod sandbox that CRI made; `config` is sent again with each of its containers."""

    id: str
    config: api.PodSandboxConfig

    @property
    def log_directory(self) -> Path:
        """Where the logs of its containers are."""
        return Path(self.config.log_directory)


@dataclass(frozen=True)
class Container:
    """A container of a pod."""

    id: str
    name: str
    pod: Pod
    log_path: Path

    def log(self) -> list[LogLine]:
        """What it has written so far, as CRI logged it."""
        return read_log(self.log_path)


@dataclass(frozen=True)
class ExecResult:
    """What ExecSync answered."""

    exit_code: int
    stdout: bytes
    stderr: bytes

    @property
    def text(self) -> str:
        """Standard output as text, without the white space around it."""
        return self.stdout.decode(errors="replace").strip()


@dataclass
class Cri:
    """One connection. A call that fails raises `grpclib.GRPCError`, one past its deadline `asyncio.TimeoutError`."""

    runtime: api.RuntimeServiceStub
    images: api.ImageServiceStub
    log_root: Path
    handler: Runtime = KATA
    pods: list[Pod] = field(default_factory=list)

    @classmethod
    @asynccontextmanager
    async def connect(cls, socket: Path, log_root: Path, handler: Runtime = KATA) -> AsyncIterator[Cri]:
        """A client for the containerd at `socket`; pods log below `log_root` and run under `handler`."""
        channel = Channel(path=str(socket))
        try:
            # The stubs are written against an interface that grpclib's Channel has, but does not declare.
            transport: Any = channel
            yield cls(api.RuntimeServiceStub(transport), api.ImageServiceStub(transport), log_root, handler)
        finally:
            channel.close()

    async def wait_for_image(self, name: str = BUSYBOX, timeout: float = 20.0) -> None:
        """Wait until CRI knows an image that was imported next to it (it learns of that by an event)."""

        async def known() -> bool:
            request = api.ImageStatusRequest(image=api.ImageSpec(image=name))
            return (await self.images.image_status(request, timeout=10)).image is not None

        await eventually_async(known, f"CRI knows image {name}", timeout)

    async def wait_ready(self, timeout: float = 20.0) -> None:
        """Wait until CRI serves: a containerd that answers has its CRI plugin still loading."""

        async def serves() -> bool:
            try:
                await self.runtime.status(api.StatusRequest(), timeout=10)
            except GRPCError:
                return False
            return True

        await eventually_async(serves, "CRI serves", timeout)

    def pod_config(self, name: str, **settings: Any) -> api.PodSandboxConfig:
        """A pod's configuration with metadata, log directory and a Linux part; `settings` are its further fields."""
        uid = str(uuid.uuid4())
        log_directory = self.log_root / f"bed_{name}_{uid}"
        log_directory.mkdir(parents=True)
        settings.setdefault("linux", api.LinuxPodSandboxConfig())
        settings.setdefault("hostname", name)
        metadata = api.PodSandboxMetadata(name=name, uid=uid, namespace="bed", attempt=0)
        return api.PodSandboxConfig(metadata=metadata, log_directory=str(log_directory), **settings)

    async def run_pod(self, name: str, *, timeout: float = RUN_POD_TIMEOUT, **settings: Any) -> Pod:
        """RunPodSandbox under this client's handler; `settings` are further fields of `PodSandboxConfig`."""
        config = self.pod_config(name, **settings)
        request = api.RunPodSandboxRequest(config=config, runtime_handler=self.handler.name)
        answer = await self.runtime.run_pod_sandbox(request, timeout=timeout)
        pod = Pod(answer.pod_sandbox_id, config)
        self.pods.append(pod)
        return pod

    async def create(
        self, pod: Pod, name: str, command: Sequence[str], *, image: str = BUSYBOX, **settings: Any
    ) -> Container:
        """CreateContainer; `settings` are further fields of `ContainerConfig`."""
        config = api.ContainerConfig(
            image=api.ImageSpec(image=image),
            command=list(command),
            log_path=f"{name}.log",
            **{
                "metadata": api.ContainerMetadata(name=name, attempt=0),
                "linux": api.LinuxContainerConfig(),
                **settings,
            },
        )
        request = api.CreateContainerRequest(pod_sandbox_id=pod.id, config=config, sandbox_config=pod.config)
        answer = await self.runtime.create_container(request, timeout=CALL_TIMEOUT)
        return Container(answer.container_id, name, pod, pod.log_directory / config.log_path)

    async def start(self, container: Container) -> None:
        """StartContainer."""
        request = api.StartContainerRequest(container_id=container.id)
        await self.runtime.start_container(request, timeout=CALL_TIMEOUT)

    async def run(self, pod: Pod, name: str, *command: str, **settings: Any) -> Container:
        """Create and start a container."""
        container = await self.create(pod, name, command, **settings)
        await self.start(container)
        return container

    async def exec(self, container: Container, *command: str, timeout: float = 60.0) -> ExecResult:
        """ExecSync with CRI's own time-out (whole seconds) a little below ours."""
        request = api.ExecSyncRequest(container_id=container.id, cmd=list(command), timeout=int(timeout))
        answer = await self.runtime.exec_sync(request, timeout=timeout + 10)
        return ExecResult(answer.exit_code, answer.stdout, answer.stderr)

    async def status(self, container: Container) -> api.ContainerStatus:
        """ContainerStatus."""
        request = api.ContainerStatusRequest(container_id=container.id)
        status = (await self.runtime.container_status(request, timeout=CALL_TIMEOUT)).status
        assert status is not None, f"CRI has no status for {container.name}"
        return status

    async def wait_exit(self, container: Container, timeout: float = 30.0) -> api.ContainerStatus:
        """Wait until CRI says the container has exited."""

        async def exited() -> api.ContainerStatus | None:
            status = await self.status(container)
            return status if status.state == api.ContainerState.CONTAINER_EXITED else None

        status = await eventually_async(exited, f"container {container.name} exits", timeout)
        assert status is not None
        return status

    async def pod_status(self, pod: Pod) -> api.PodSandboxStatus:
        """PodSandboxStatus."""
        request = api.PodSandboxStatusRequest(pod_sandbox_id=pod.id)
        status = (await self.runtime.pod_sandbox_status(request, timeout=CALL_TIMEOUT)).status
        assert status is not None, f"CRI has no status for pod {pod.id}"
        return status

    async def stats(self, container: Container) -> api.ContainerStats:
        """ContainerStats."""
        request = api.ContainerStatsRequest(container_id=container.id)
        stats = (await self.runtime.container_stats(request, timeout=CALL_TIMEOUT)).stats
        assert stats is not None, f"CRI has no stats for {container.name}"
        return stats

    async def stop(self, container: Container, grace: int = 5) -> None:
        """StopContainer: SIGTERM, then SIGKILL after `grace` seconds."""
        request = api.StopContainerRequest(container_id=container.id, timeout=grace)
        await self.runtime.stop_container(request, timeout=CALL_TIMEOUT + grace)

    async def remove(self, container: Container) -> None:
        """RemoveContainer."""
        request = api.RemoveContainerRequest(container_id=container.id)
        await self.runtime.remove_container(request, timeout=CALL_TIMEOUT)

    async def stop_pod(self, pod: Pod) -> None:
        """StopPodSandbox."""
        await self.runtime.stop_pod_sandbox(api.StopPodSandboxRequest(pod_sandbox_id=pod.id), timeout=CALL_TIMEOUT)

    async def remove_pod(self, pod: Pod) -> None:
        """RemovePodSandbox, with all its containers."""
        request = api.RemovePodSandboxRequest(pod_sandbox_id=pod.id)
        await self.runtime.remove_pod_sandbox(request, timeout=CALL_TIMEOUT)
        if pod in self.pods:
            self.pods.remove(pod)

    async def remove_all(self) -> None:
        """Stop and remove every pod this client made and has not removed: what a test does at its end."""
        await asyncio.gather(*(self._remove_one(pod) for pod in list(self.pods)))

    async def _remove_one(self, pod: Pod) -> None:
        await self.stop_pod(pod)
        await self.remove_pod(pod)
