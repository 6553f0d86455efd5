"""The sandbox: what all containers of the pod share, made by CreateSandbox and taken away by DestroySandbox."""

from __future__ import annotations

import asyncio
import os
import socket
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

from guest.agent import identity, kernel, modules
from guest.agent.container import Container, State
from guest.agent.errors import (
    AlreadyExistsError,
    FailedPreconditionError,
    InvalidArgumentError,
    RpcError,
    failed,
)
from guest.agent.layout import Layout
from guest.agent.log import log
from guest.agent.manager import ContainerManager
from guest.agent.names import absolute_path, container_id, hostname
from guest.agent.namespaces import SharedNamespaces
from guest.agent.ociresources import cpu_set
from guest.agent.ocispec import Surroundings
from guest.agent.reaper import Reaper
from guest.agent.storage.table import SANDBOX, StorageTable

if TYPE_CHECKING:
    from guest.agent.hooks import GuestHooks
    from protos.lean.gen.grpc import CreateContainerRequest, CreateSandboxRequest

MAX_DNS_LINES = 64
DNS_LINE_LIMIT = 1024
#: Seconds that one container may take to go when the sandbox is destroyed.
DESTROY_TIMEOUT = 5.0
RESOLV_CONF = "/etc/resolv.conf"
MACHINE_ID = "/etc/machine-id"


class Sandbox:
    """One pod. Before `create` there is none, and no container can be made; it can be created once."""

    def __init__(self, layout: Layout, reaper: Reaper, storages: StorageTable, containers: ContainerManager) -> None:
        self._layout = layout
        self._reaper = reaper
        self._storages = storages
        self._containers = containers
        self._namespaces = SharedNamespaces(f"{layout.sandbox}/ns")
        self._hostname = ""
        self._shares_pids = False
        self._sharing_pids = asyncio.Lock()
        self._pid_holder: Container | None = None
        self._is_up = False
        self._is_claimed = False

    async def create(self, request: CreateSandboxRequest) -> None:
        """Set the pod up; any failure leaves the guest as it was."""
        if self._is_claimed:
            raise AlreadyExistsError("the sandbox exists")
        dns = resolv_conf(request.dns)
        hooks = absolute_path(request.guest_hook_path, "guest hook path") if request.guest_hook_path else ""
        name = hostname(request.hostname) if request.hostname else ""
        if request.sandbox_id:
            container_id(request.sandbox_id)
        self._is_claimed = True
        try:
            async with AsyncExitStack() as undo:
                await self._set_up(request, name, dns, undo)
                if hooks:
                    self._containers.hooks = _guest_hooks(hooks, self._reaper)
                undo.pop_all()
        except BaseException:
            self._is_claimed = False
            raise
        self._hostname = name
        self._shares_pids = request.sandbox_pidns
        self._is_up = True

    async def _set_up(self, request: CreateSandboxRequest, name: str, dns: str, undo: AsyncExitStack) -> None:
        for module in request.kernel_modules:
            await modules.load(module.name, module.parameters, self._reaper)
        await self._storages.attach_all(SANDBOX, request.storages)
        undo.push_async_callback(self._storages.release_everything)
        self._namespaces.create(name)
        undo.callback(self._namespaces.remove)
        identity.name_machine(self._layout.sandbox, MACHINE_ID)
        if name:
            _set_guest_hostname(name)
        if dns:
            _write_resolv_conf(f"{self._layout.sandbox}/resolv.conf", dns)

    async def create_container(self, request: CreateContainerRequest) -> None:
        """Make a container of this pod."""
        if not self._is_up:
            raise FailedPreconditionError("there is no sandbox")
        if not (self._shares_pids or request.sandbox_pidns):
            await self._create_container(request, pid="")
            return
        # One at a time, so that just one container becomes the holder.
        async with self._sharing_pids:
            pid = self._pid_namespace()
            container = await self._create_container(request, pid)
            if not pid:
                self._pid_holder = container

    async def _create_container(self, request: CreateContainerRequest, pid: str) -> Container:
        around = Surroundings(
            self._layout,
            ipc=self._namespaces.path("ipc"),
            uts=self._namespaces.path("uts"),
            pid=pid,
            hostname=self._hostname,
            online_cpus=self.online_cpus(),
        )
        return await self._containers.create(request, around)

    def _pid_namespace(self) -> str:
        """The shared pid namespace; empty for the first container that shares, whose init (a pod's pause) holds it.

        When that init ends the kernel kills all in the namespace, so the next container begins a new one.
        """
        holder = self._pid_holder
        if holder is None or holder.state is State.STOPPED:
            return ""
        return f"{self._layout.proc}/{holder.init.pid}/ns/pid"

    def online_cpus(self) -> frozenset[int]:
        """The guest's CPUs that run now."""
        try:
            with open(f"{self._layout.sys}/devices/system/cpu/online", encoding="ascii") as file:
                return cpu_set(file.read())
        except (OSError, InvalidArgumentError):
            return frozenset()

    async def destroy(self) -> None:
        """Kill and remove everything; what can't be removed is logged, for the machine ends next."""
        for name in reversed(self._containers.ids):
            try:
                await self._containers.remove(name, DESTROY_TIMEOUT)
            except RpcError as error:
                log.warning("container %s is left behind: %s", name, error)
        await self._storages.release_everything()
        self._namespaces.remove()
        self._is_up = False


def _guest_hooks(directory: str, reaper: Reaper) -> GuestHooks:
    from guest.agent.hooks import GuestHooks

    return GuestHooks(directory, reaper)


def resolv_conf(lines: list[str]) -> str:
    """The text of resolv.conf for lines like `nameserver 10.96.0.10`; refuses what would break out of one."""
    if len(lines) > MAX_DNS_LINES:
        raise InvalidArgumentError(f"{len(lines)} dns lines are too many")
    for line in lines:
        if len(line) > DNS_LINE_LIMIT or not line.replace("\t", " ").isprintable():
            raise InvalidArgumentError(f"dns line {line[:100]!r} is malformed")
    return "".join(line + "\n" for line in lines)


def _write_resolv_conf(path: str, text: str) -> None:
    """Write the file and show it at /etc/resolv.conf, whose own file system is read-only."""
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        if os.path.isfile(RESOLV_CONF) and not os.path.samefile(path, RESOLV_CONF):
            kernel.mount(path, RESOLV_CONF, "", kernel.MS_BIND)
    except OSError as error:
        raise failed("write resolv.conf", error) from error


def _set_guest_hostname(name: str) -> None:
    """The guest's own name, for its log; containers see the shared UTS namespace."""
    try:
        socket.sethostname(name)
    except OSError as error:
        log.warning("hostname: %s", error)
