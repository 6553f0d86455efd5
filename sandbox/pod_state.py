"""What a pod is at this moment, apart from what can be done with it: its containers by id, and the one VM they share.

The verbs (`sandbox.sandbox`, `creation`, `boot`, `exits`, `signals`, `deletion`) all work on this value and know
nothing of one another's insides.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import anyio
import anyio.abc

import config
from sandbox.container import Container
from sandbox.errors import FailedPreconditionError, NotFoundError, UnavailableError
from sandbox.interface import OpenStdio, Publish, SandboxIdentity
from sandbox.machine import Machine, MakeMachine, make_machine
from sandbox.oci import Spec
from sandbox.phases import StartRecord
from sandbox.process import Process
from sandbox.resources import hierarchies
from sandbox.resources.pod_cgroup import PodCgroup
from sandbox.rundir import RunDirectory, is_owned, run_dir_for

#: How long the containers' ends may take to be told once the VM is gone, in seconds.
ENDS_TIMEOUT = 2.0


@dataclass
class PodState:
    """One pod. Its fields are changed by the verbs alone; whoever only asks reads them."""

    identity: SandboxIdentity
    open_stdio: OpenStdio
    publish: Publish
    load_config: Callable[..., config.Config] = config.load
    make_machine: MakeMachine = make_machine
    #: Looks for the host's cgroups; raises `ValueError` if there are none.
    find_cgroups: Callable[[], hierarchies.HostCgroups] = hierarchies.of_this_host
    containers: dict[str, Container] = field(default_factory=dict)
    machine: Machine | None = None
    #: The container whose end is the pod's end: the pod's own, or the only one.
    root_id: str | None = None
    #: How its start went, once it has.
    started: StartRecord | None = None
    #: The pod's own spec where the Sandbox API made the pod: then there is no such container.
    own_spec: Spec | None = None
    #: Where the daemon and its helpers are counted, if not with containerd.
    cgroup: PodCgroup | None = None
    _directory: RunDirectory | None = None

    @cached_property
    def group(self) -> anyio.abc.TaskGroup:
        """Where everything that lives as long as the pod runs; `Sandbox` opens and closes it."""
        return anyio.create_task_group()

    @cached_property
    def booting(self) -> anyio.Lock:
        """Held while the VM is brought up."""
        return anyio.Lock()

    @property
    def directory(self) -> RunDirectory:
        """The run directory, from `open_directory` on."""
        if self._directory is None:
            raise UnavailableError("the sandbox is not open")
        return self._directory

    def open_directory(self) -> None:
        """Make the run directory and lock it; raises `FileExistsError` when another living shim owns it.

        What a daemon left that was killed, with nobody to call `delete` for it, is undone first.
        """
        identity = self.identity
        facts = {
            "sandbox_id": identity.sandbox_id,
            "namespace": identity.namespace,
            "socket": str(identity.socket_path),
        }
        path = run_dir_for(identity.containerd_address, identity.namespace, identity.sandbox_id)
        if path.exists() and not is_owned(path):
            from sandbox.cleanup import clean

            clean(path, keep=identity.socket_path)
        self._directory = RunDirectory.create(path, facts)

    @property
    def pod_files(self) -> Path:
        """Where the files are that a pod of the Sandbox API has of its own (`sandbox.podspec`)."""
        return self.directory.path / "pod"

    def enter_cgroup(self, path: str, overhead: str = "") -> None:
        """Be counted in the cgroup at `path` from now on, with all that is started later. Once for a pod.

        With `overhead`, the path of another one, only vCPUs are counted at `path`, and the rest there. Raises
        `FailedPreconditionError`.
        """
        if self.cgroup is not None:
            return
        try:
            host = self.find_cgroups()
        except ValueError as error:
            raise FailedPreconditionError(f"the pod has no cgroup on the host: {error}") from error
        cgroup = PodCgroup.split(path, overhead, host) if overhead else PodCgroup(path, host)
        cgroup.enter(self.directory)
        self.cgroup = cgroup

    def expel(self, pid: int) -> None:
        """Have a helper that is not the pod's counted where the daemon was before; nothing happens without a cgroup."""
        if self.cgroup is not None:
            self.cgroup.expel(pid)

    def leave_cgroup(self) -> None:
        """Remove the cgroup, when nothing else is in it any more; idempotent."""
        if self.cgroup is not None:
            self.cgroup.leave()
            self.cgroup = None

    @property
    def vm_pid(self) -> int:
        """Pid that stands for every task of the pod: that of its VM."""
        return self.machine.pid if self.machine else 0

    @property
    def is_lost(self) -> bool:
        """Whether there is no VM (any more)."""
        return self.machine is None or self.machine.lost.is_set()

    def require_machine(self) -> Machine:
        """The VM with its helpers; raises `UnavailableError` when there is none."""
        if self.machine is None:
            raise UnavailableError("the sandbox has no VM")
        return self.machine

    async def see_containers_end(self) -> None:
        """Once the VM is gone: return when the ends of all containers are told, or after `ENDS_TIMEOUT`."""
        with anyio.move_on_after(ENDS_TIMEOUT):
            for container in list(self.containers.values()):
                await container.init.wait()

    def container(self, container_id: str) -> Container:
        """A container by its id; raises `NotFoundError`."""
        try:
            return self.containers[container_id]
        except KeyError:
            raise NotFoundError(f"container {container_id}: not found") from None

    def process(self, container_id: str, exec_id: str) -> Process:
        """A container's init (empty exec id) or one of its execs; raises `NotFoundError`."""
        return self.container(container_id).process(exec_id)
