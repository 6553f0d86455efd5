"""The disks of a pod: each host device or image is plugged in once, for all containers that have it."""

from __future__ import annotations

import itertools
import logging
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial

import anyio

from hypervisor.errors import HypervisorError, VmGoneError
from hypervisor.hotplug.addresses import DiskAddress
from hypervisor.hotplug.disks import Disk, DiskImage, Disks
from sandbox.errors import FailedPreconditionError, UnavailableError
from sandbox.storage.images import Identity, image

_log = logging.getLogger(__name__)


@dataclass
class _Held:
    """A disk in the VM, and how many have it."""

    disk: Disk
    holders: int = 0


class PodDisks:
    """The pod's disks by what they are on the host."""

    def __init__(self, disks: Disks) -> None:
        self._disks = disks
        self._held: dict[Identity, _Held] = {}
        self._numbers = itertools.count()
        #: Held while disks come and go: the last holder's going must not meet a new one's coming.
        self._changing = anyio.Lock()

    async def hold(self, path: str, read_only: bool, what: str, held: AsyncExitStack) -> DiskAddress:
        """Have the device or image at `path` in the VM until `held` is closed; returns where the guest finds it.

        `what` names its use, for errors. Raises `InvalidArgumentError` for what is no disk, `FailedPreconditionError`
        for one that is in use or has no free place in the VM, `UnavailableError` when the VM is gone.
        """
        async with self._changing:
            plugged, identity = self._find(path, read_only, what)
            entry = self._held.get(identity)
            if entry is None:
                entry = self._held[identity] = _Held(await self._attach(plugged, f"{what} {path}"))
            elif plugged.read_only < entry.disk.image.read_only:
                raise FailedPreconditionError(f"{what} {path} is in the VM as a read-only disk already")
            entry.holders += 1
            held.push_async_callback(partial(self._let_go, identity))
        return entry.disk.address

    def _find(self, path: str, read_only: bool, what: str) -> tuple[DiskImage, Identity]:
        """The image; one that the VM has already is not looked at for other users."""
        plugged, identity = image(path, True, what)
        if identity in self._held or read_only:
            return DiskImage(plugged.path, plugged.is_device, read_only), identity
        return image(path, read_only, what)

    async def _attach(self, plugged: DiskImage, what: str) -> Disk:
        try:
            return await self._disks.attach(f"disk{next(self._numbers)}", plugged)
        except VmGoneError as error:
            raise UnavailableError(f"{what}: {error}") from error
        except HypervisorError as error:
            raise FailedPreconditionError(f"{what}: {error}") from error

    async def _let_go(self, identity: Identity) -> None:
        """One holder less; the last one's disk is taken out, and one that the guest keeps is told in the log."""
        async with self._changing:
            entry = self._held[identity]
            entry.holders -= 1
            if entry.holders:
                return
            del self._held[identity]
            try:
                await self._disks.detach(entry.disk)
            except HypervisorError as error:
                _log.warning("%s stays in the VM: %s", entry.disk.image.path, error)
