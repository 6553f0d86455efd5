"""The contract of a way to share: what it promises to the machine that owns it, and to those who add to it.

| method                       | when                                                                     |
|------------------------------|--------------------------------------------------------------------------|
| `start`                      | once, before the VM starts                                               |
| `add_rootfs` `add` `remove`  | after `start`; adding needs an agent that answers                        |
| `storages`                   | after `add_rootfs` and `add` of that container                           |
| `serve`                      | once, beside the pod; returns when there is nothing (more) to do         |
| `ended` `exit_reason`        | any time; `ended` waits                                                  |
| `kill` `close`               | any time, idempotent; nothing can be added afterwards                    |
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import anyio

from hypervisor.devices import NinepFs, SharedFs
from hypervisor.vm import OnSpawn
from protos.gen import grpc as agent_pb
from sandbox.interface import Mount
from sandbox.volumes import ShareEntry


class Guest(Protocol):
    """What a share needs of the guest; the agent's client has it as `storage`."""

    async def copy_file(
        self,
        *,
        path: str,
        file_size: int,
        file_mode: int,
        dir_mode: int,
        uid: int,
        gid: int,
        offset: int = 0,
        data: bytes = b"",
    ) -> None:
        """CopyFile; raises `AgentError`."""


class Share(ABC):
    """A pod's files on their way to its guest. This base has no helper process and nothing to do beside the pod."""

    #: Whether containers that have the same volume have one entry for it; else each has its own.
    shares_entries = True

    @abstractmethod
    async def start(self, timeout: float) -> None:
        """Make everything that the VM needs, within `timeout` seconds; raises `HypervisorError`, `SandboxError`."""

    @abstractmethod
    async def add_rootfs(self, guest: Guest, container_id: str, rootfs: Sequence[Mount], fallback: Path) -> None:
        """Give the guest a container's root file system at `guest_paths.rootfs`.

        Without mounts of a snapshotter it is the directory `fallback` (spec.root.path). Raises `SandboxError`,
        `AgentError`.
        """

    @abstractmethod
    async def add(self, guest: Guest, container_id: str, entries: Sequence[ShareEntry]) -> None:
        """Give the guest a container's volumes, each at `guest_paths.shared` of its name.

        Raises `InvalidArgumentError` when a source does not exist or can't be shared; `AgentError`.
        """

    def storages(self, container_id: str) -> list[agent_pb.Storage]:
        """What the container's CreateContainer has to ask for besides."""
        return []

    @abstractmethod
    async def remove(self, container_id: str) -> None:
        """Undo on the host what was added for a container; idempotent.

        May take as long as the host's disk; not given up when its caller is.
        """

    async def serve(self, guest: Guest) -> None:
        """Bring changes of the host to the guest, for as long as there may be any."""
        return

    async def ended(self) -> str:
        """Wait for the end of the helper process, without which the guest's files hang; why, in one line."""
        await anyio.sleep_forever()
        raise AssertionError("unreachable")

    @property
    def exit_reason(self) -> str | None:
        """Why the helper process has ended by itself, in one line.

        None while it runs, where there is none, and when it only followed the VM.
        """
        return None

    def kill(self) -> None:
        """End the helper process now, without waiting."""
        return

    @abstractmethod
    async def close(self, timeout: float) -> None:
        """Undo everything; the VM is gone. A helper process may take `timeout` seconds to end."""


class SharingPlan(ABC):
    """A way to share as plain values, before anything is touched."""

    @property
    @abstractmethod
    def device(self) -> SharedFs | NinepFs | None:
        """The VM's device, if the way has one."""

    @property
    @abstractmethod
    def sandbox_storages(self) -> list[agent_pb.Storage]:
        """What CreateSandbox has the guest mount for it."""

    @property
    @abstractmethod
    def guest_needs(self) -> str:
        """What a guest must have for it, in words for the error when CreateSandbox fails."""

    @property
    def drivers(self) -> frozenset[str]:
        """The storage drivers that the guest's agent must have for it."""
        return frozenset(storage.driver for storage in self.sandbox_storages)

    @abstractmethod
    def make(self, on_spawn: OnSpawn) -> Share:
        """The share; `on_spawn` gets the pid of a helper process before anything is waited for."""
