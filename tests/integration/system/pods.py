"""Pods through CRI that the tests of a module share, and the settings that kubelet would send."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from protos.gen.runtime import v1 as api
from tests.harness.bed import Bed
from tests.harness.cri import Container, Cri, Pod
from tests.harness.fixtures import BedKeeper
from tests.harness.runtimes import Runtime

#: A container that stays until it is stopped, and ends at once on SIGTERM.
STAY = ("sh", "-c", "trap 'exit 0' TERM; while :; do sleep 3600 & wait; done")

_numbers = itertools.count(1)


def pid_namespace(mode: api.NamespaceMode) -> dict[str, Any]:
    """Settings of a pod's or a container's Linux part: whose process namespace it is in."""
    return {"namespace_options": api.NamespaceOption(pid=mode)}


def pod_linux(mode: api.NamespaceMode = api.NamespaceMode.CONTAINER, **settings: Any) -> api.LinuxPodSandboxConfig:
    """The Linux part of a pod; by default each container has its own process namespace, as kubelet's default is."""
    return api.LinuxPodSandboxConfig(
        security_context=api.LinuxSandboxSecurityContext(**pid_namespace(mode)), **settings
    )


def linux(
    mode: api.NamespaceMode = api.NamespaceMode.CONTAINER,
    resources: api.LinuxContainerResources | None = None,
    **security: Any,
) -> api.LinuxContainerConfig:
    """The Linux part of a container; `security` are fields of its security context."""
    context = api.LinuxContainerSecurityContext(**pid_namespace(mode), **security)
    return api.LinuxContainerConfig(resources=resources, security_context=context)


@asynccontextmanager
async def running(cri: Cri, pod: Pod, name: str, *command: str, **settings: Any) -> AsyncIterator[Container]:
    """A container that runs beside the body, and is removed at its end; its name, and so its log, is its own."""
    settings.setdefault("linux", linux())
    container = await cri.create(pod, f"{name}-{next(_numbers)}", command or STAY, **settings)
    try:
        await cri.start(container)
        yield container
    finally:
        await cri.stop(container, grace=0)
        await cri.remove(container)


async def output(cri: Cri, pod: Pod, name: str, *command: str, **settings: Any) -> str:
    """What a container wrote to its end, which must be a good one."""
    async with running(cri, pod, name, *command, **settings) as container:
        status = await cri.wait_exit(container)
        text = "\n".join(line.text for line in container.log())
        assert status.exit_code == 0, f"{name} ended with {status.exit_code}: {text}"
    return text


class PodKeeper:
    """Runs a pod when one is wanted, and another if a test has spoiled the bed that the last one was in.

    It runs under the bed's runtime if no `handler` is named.
    """

    def __init__(self, beds: BedKeeper, name: str, handler: Runtime | None = None, **settings: Any) -> None:
        self._beds = beds
        self._name = name
        self._handler = handler
        self._settings = settings
        self._stack = AsyncExitStack()
        self._bed: Bed | None = None
        self._kept: tuple[Cri, Pod] | None = None

    async def pod(self) -> tuple[Cri, Pod]:
        """A client, and the pod."""
        bed = self._beds.bed()
        if self._kept is None or self._bed is not bed:
            await self._stack.aclose()
            handler = self._handler or bed.runtime
            cri = await self._stack.enter_async_context(Cri.connect(bed.socket, bed.pod_logs, handler))
            await cri.wait_for_image()
            self._kept = cri, await cri.run_pod(self._name, **self._settings)
            self._bed = bed
        return self._kept

    async def close(self) -> None:
        """Remove it, if its bed is still there, and hang up."""
        if self._kept is not None and self._bed is self._beds.bed():
            await self._kept[0].remove_all()
        await self._stack.aclose()
