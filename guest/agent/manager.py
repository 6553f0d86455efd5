"""The containers of the sandbox: made whole or not at all, and everything that is done to one.

Each public method is one verb of the agent protocol and raises `RpcError`.
"""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import AsyncExitStack
from functools import partial
from typing import TYPE_CHECKING, Any

from guest.agent import signals, sysctl
from guest.agent.beneath import open_directory, open_path, remove_tree
from guest.agent.cgroup import Cgroup
from guest.agent.container import Container, State
from guest.agent.crun import Crun, write_json
from guest.agent.devices import mapping
from guest.agent.devices.finder import DeviceFinder
from guest.agent.errors import (
    AlreadyExistsError,
    DeadlineError,
    FailedPreconditionError,
    NotFoundError,
    ResourceExhaustedError,
    RpcError,
    failed,
)
from guest.agent.launch import Launcher
from guest.agent.layout import Layout
from guest.agent.log import log
from guest.agent.names import is_beneath
from guest.agent.ociprocess import process_json
from guest.agent.ociresources import resources_json
from guest.agent.ocispec import Surroundings, network_sysctls, spec_json
from guest.agent.oom import OomWatch
from guest.agent.storage.table import StorageTable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from guest.agent.hooks import GuestHooks
    from guest.agent.inner_hooks import InnerHooks
    from guest.agent.process import Process as ContainerProcess
    from protos.lean.gen.grpc import CreateContainerRequest, Device, LinuxResources, Process

MAX_CONTAINERS = 512
#: How long RemoveContainer waits for killed processes to be gone if the host names no time.
REMOVE_TIMEOUT = 30.0


class ContainerManager:
    """All containers, by id."""

    def __init__(
        self,
        layout: Layout,
        crun: Crun,
        launcher: Launcher,
        storages: StorageTable,
        devices: DeviceFinder,
        oom: OomWatch,
    ) -> None:
        self._layout = layout
        self._devices = devices
        self._crun = crun
        self._launcher = launcher
        self._storages = storages
        self._oom = oom
        self._containers: dict[str, Container] = {}
        #: Programs of the guest to run around each container, if the sandbox asked for them.
        self.hooks: GuestHooks | None = None
        #: Set when the creation has ended, one way or the other.
        self._creating: dict[str, asyncio.Event] = {}

    @property
    def ids(self) -> list[str]:
        """The ids of all containers, oldest first."""
        return list(self._containers)

    def get(self, container_id: str) -> Container:
        """The container; `NotFoundError` if there is none."""
        container = self._containers.get(container_id)
        if container is None:
            raise NotFoundError(f"container {container_id} does not exist")
        return container

    def process(self, container_id: str, exec_id: str) -> ContainerProcess:
        """A process of a container; `NotFoundError` if there is none."""
        return self.get(container_id).process(exec_id)

    async def create(self, request: CreateContainerRequest, around: Surroundings) -> Container:
        """Make a container whose init waits to be started. Any failure leaves nothing behind."""
        container_id = request.container_id
        if container_id in self._containers or container_id in self._creating:
            raise AlreadyExistsError(f"container {container_id} exists")
        if len(self._containers) + len(self._creating) >= MAX_CONTAINERS:
            raise ResourceExhaustedError(f"{MAX_CONTAINERS} containers exist")
        self._creating[container_id] = asyncio.Event()
        try:
            async with AsyncExitStack() as undo:
                container = await self._create(request, around, undo)
                undo.pop_all()
            self._containers[container_id] = container
        finally:
            self._creating.pop(container_id).set()
        return container

    async def _create(self, request: CreateContainerRequest, around: Surroundings, undo: AsyncExitStack) -> Container:
        container_id, spec = request.container_id, request.oci
        config = spec_json(spec, container_id, around)
        addresses = await self._add_devices(config, request.devices)
        await self._storages.attach_all(container_id, request.storages)
        undo.push_async_callback(self._storages.release, container_id)
        _check_sources(config, self._layout)
        bundle = self._layout.bundle(container_id)
        undo.callback(_remove_bundle, bundle)
        inner = _write_bundle(bundle, config)
        if inner is not None:
            undo.callback(inner.close)
        sysctl.apply(network_sysctls(spec), self._layout.proc)
        undo.push_async_callback(self._delete, container_id)
        process = config["process"]
        start = partial(self._start_init, container_id, bundle, process["args"], inner)
        init = await self._launcher.launch(request.exec_id or container_id, process, start)
        undo.callback(init.streams.close)
        if self.hooks is not None:
            await self.hooks.prestart(container_id, init.pid, bundle, config["annotations"])
        cgroup = Cgroup(self._layout.container_cgroup(container_id))
        container = Container(container_id, init, cgroup, config, addresses)
        container.inner_hooks = inner
        if inner is not None:
            inner.follow(init.pid, self._launcher.reaper)
        self._oom.watch(container_id, container.cgroup.path)
        init.on_end(partial(self._oom.check, container_id))
        # In a shared pid namespace the others would outlive their init.
        init.on_end(container.cgroup.kill)
        return container

    async def _add_devices(self, config: dict[str, Any], devices: Sequence[Device]) -> dict[str, str]:
        """Put the devices into the config; returns the guest's PCI addresses by the host's."""
        addresses: dict[str, str] = {}
        if devices:
            from guest.agent.devices import environment, registry

            updates, addresses = await registry.find_all(devices, self._devices)
            mapping.apply(config, updates)
            config["process"]["env"] = environment.translate(config["process"]["env"], addresses)
        mapping.guard(config, self._devices.root_numbers)
        return addresses

    async def _start_init(
        self,
        container_id: str,
        bundle: str,
        program: list[str],
        inner: InnerHooks | None,
        stdio: Any,
        console: str | None,
    ) -> int:
        if inner is None:
            return await self._crun.create(container_id, bundle, stdio, console, program)
        try:
            return await self._crun.create(container_id, bundle, stdio, console, program)
        except RpcError as error:
            raise inner.explain(error) from error

    async def _delete(self, container_id: str) -> None:
        """Let crun clean up after a create that failed; its failure must not hide the first one."""
        try:
            await self._crun.delete(container_id)
        except Exception as error:  # noqa: BLE001 - the caller reports the error that brought us here
            log.warning("container %s: cleaning up: %s", container_id, error)

    async def start(self, container_id: str) -> None:
        """Let the init run its program."""
        container = self.get(container_id)
        async with container.lock:
            container.require(State.CREATED)
            await self._crun.start(container_id, container.config["process"]["args"])
            if container.inner_hooks is not None:
                await container.inner_hooks.finished()
            container.become(State.RUNNING)
            if self.hooks is not None:
                bundle = self._layout.bundle(container_id)
                await self.hooks.poststart(container_id, container.init.pid, bundle, container.config["annotations"])

    async def exec(self, container_id: str, exec_id: str, process: Process | None) -> None:
        """Run a further process in a running container."""
        container = self.get(container_id)
        document = process_json(process, container.config["process"])
        if container.pci_addresses:
            from guest.agent.devices import environment

            document["env"] = environment.translate(document["env"], container.pci_addresses)
        container.require(State.RUNNING)
        container.reserve(exec_id)
        file = f"{self._layout.bundle(container_id)}/exec-{os.urandom(8).hex()}.json"
        try:
            write_json(file, document)
            start = partial(self._start_exec, container_id, file, document["args"])
            started = await self._launcher.launch(exec_id, document, start)
            if self._containers.get(container_id) is not container:
                # It was removed meanwhile, with the streams of all that it had.
                started.signal(signal.SIGKILL)
                started.streams.close()
                raise NotFoundError(f"container {container_id} does not exist")
            container.add_exec(started)
        finally:
            container.unreserve(exec_id)
            _unlink(file)

    async def _start_exec(
        self, container_id: str, file: str, program: list[str], stdio: Any, console: str | None
    ) -> int:
        return await self._crun.exec(container_id, file, stdio, console, program)

    def signal(self, container_id: str, exec_id: str, number: int) -> None:
        """Send a signal to one process; SIGKILL with an empty `exec_id` goes to all of the container's."""
        container = self.get(container_id)
        number = signals.checked(number)
        process = container.process(exec_id)
        if process is container.init and not process.ended:
            number = signals.effective(number, self._status_of(process.pid))
        if not exec_id and number == signal.SIGKILL:
            container.cgroup.kill()
        process.signal(number)

    def _status_of(self, pid: int) -> str:
        try:
            with open(f"{self._layout.proc}/{pid}/status", encoding="utf-8", errors="replace") as file:
                return file.read()
        except OSError:
            return ""

    async def pause(self, container_id: str) -> None:
        """Freeze the container's processes."""
        await self._freeze(container_id, State.RUNNING, State.PAUSED)

    async def resume(self, container_id: str) -> None:
        """Thaw the container's processes."""
        await self._freeze(container_id, State.PAUSED, State.RUNNING)

    async def _freeze(self, container_id: str, before: State, after: State) -> None:
        container = self.get(container_id)
        async with container.lock:
            container.require(before)
            await container.cgroup.freeze(after is State.PAUSED)
            container.become(after)

    async def update(self, container_id: str, resources: LinuxResources | None, online_cpus: frozenset[int]) -> None:
        """Set new limits; what the resources do not name stays."""
        container = self.get(container_id)
        document = resources_json(resources, online_cpus)
        if "devices" in document:
            document["devices"] += mapping.denials(self._devices.root_numbers)
        async with container.lock:
            container.require(State.CREATED, State.RUNNING, State.PAUSED)
            _check_memory(container, document)
            if document:
                file = f"{self._layout.bundle(container_id)}/resources.json"
                await self._crun.update(container_id, write_json(file, document))

    async def remove(self, container_id: str, timeout: float = 0) -> None:
        """Kill what runs in the container and take it away with its storages; 0 means the agent's own deadline.

        A container that is still being made goes as soon as it is there: its host may have given up waiting for that.
        """
        if creation := self._creating.get(container_id):
            await creation.wait()
        container = self.get(container_id)
        async with container.lock:
            if self._containers.get(container_id) is not container:
                raise NotFoundError(f"container {container_id} does not exist")
            container.cgroup.kill()
            await _ended(container, timeout or REMOVE_TIMEOUT)
            self._oom.forget(container_id)
            await self._crun.delete(container_id)
            del self._containers[container_id]
            container.close_streams()
            if container.inner_hooks is not None:
                container.inner_hooks.close()
            if self.hooks is not None:
                bundle = self._layout.bundle(container_id)
                await self.hooks.poststop(container_id, bundle, container.config["annotations"])
            await self._storages.release(container_id)
            _remove_bundle(self._layout.bundle(container_id))


def _check_memory(container: Container, resources: dict[str, Any]) -> None:
    """Raise rather than have the kernel kill for a limit below what is in use and can't be dropped, as files can."""
    limit = resources.get("memory", {}).get("limit", 0)
    stat = container.cgroup.pairs("memory.stat")
    used = container.cgroup.number("memory.current") - stat.get("file", 0) + stat.get("shmem", 0)
    if 0 < limit < used:
        raise FailedPreconditionError(
            f"container {container.id} uses {used} bytes of memory: its limit can't become {limit}"
        )


async def _ended(container: Container, timeout: float) -> None:
    container.init.signal(signal.SIGKILL)
    try:
        await asyncio.wait_for(container.init.wait(), timeout)
    except TimeoutError as error:
        raise DeadlineError(f"container {container.id} did not end within {timeout:g} s") from error


def _check_sources(config: dict[str, Any], layout: Layout) -> None:
    """Raise unless root file system and bind sources exist, and no link in Kata's tree leads them out of it."""
    os.close(open_directory(layout.shared_run, config["root"]["path"]))
    for mount in config["mounts"]:
        if mount.get("type") == "bind" and is_beneath(mount["source"], layout.shared_run):
            os.close(open_path(layout.shared_run, mount["source"], "mount source"))
            _enter(mount["source"])


def _enter(path: str) -> None:
    """Have the kernel mount what the host has mounted on a directory of the share.

    It does so when a path leads through. If that were first in a container's own mount namespace, each container would
    have a file system of its own there, and a socket that one has made would be another file for the next.
    """
    try:
        os.stat(f"{path}/.")
    except OSError:
        # A file, on which virtiofsd announces no mount.
        return


def _write_bundle(bundle: str, config: dict[str, Any]) -> InnerHooks | None:
    """Lay down what crun reads; returns the container's hooks, if it has any that crun runs."""
    try:
        os.makedirs(bundle, mode=0o700)
        inner = _inner_hooks(bundle, config)
        write_json(f"{bundle}/config.json", inner.annotate(config) if inner else config)
        return inner
    except OSError as error:
        raise failed(f"write {bundle}", error) from error


def _inner_hooks(bundle: str, config: dict[str, Any]) -> InnerHooks | None:
    if not any(config.get("hooks", {}).values()):
        return None
    from guest.agent.inner_hooks import InnerHooks

    return InnerHooks(bundle, config)


def _remove_bundle(bundle: str) -> None:
    try:
        remove_tree(bundle)
    except OSError as error:
        log.warning("%s is left behind: %s", bundle, error)


def _unlink(path: str) -> None:
    try:
        os.unlink(path)
    except OSError:
        pass
