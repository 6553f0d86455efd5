"""Memory that comes and goes while the VM runs: DIMMs, or one virtio-mem device that grows and shrinks.

Every back end is a shared memfd, as the VM's first memory is, so that virtiofsd can map it (vhost-user). Sizes are MiB
of what was plugged in, without what the VM booted with.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import Protocol

import anyio

from hypervisor.devices import VIRTIO_MEM_ID
from hypervisor.errors import HypervisorError, QmpError
from hypervisor.hotplug.plug import UNPLUG_TIMEOUT, Hotplug

_log = logging.getLogger(__name__)
_MIB = 1 << 20
#: Seconds for the guest to take what virtio-mem offers, and to give back what it is asked for.
RESIZE_TIMEOUT = 20.0
_SIZE_CHANGE = "MEMORY_DEVICE_SIZE_CHANGE"
#: How often the size is asked for where no event comes, in seconds: QEMU sends no more than one event a second.
_LOOK_AGAIN = 1.0


class PluggableMemory(Protocol):
    """Memory beyond what the VM booted with."""

    @property
    def plugged_mib(self) -> int:
        """How much there is now, by what QEMU and the guest have told."""

    async def grow(self, mib: int, block_mib: int) -> None:
        """Have at least `mib`, in steps of the guest's memory blocks of `block_mib`.

        Raises `HypervisorError` when QEMU refuses or the guest does not take it: there is as much as before then.
        """

    async def shrink(self, mib: int, timeout: float = UNPLUG_TIMEOUT) -> HypervisorError | None:
        """Have `mib`, or as little more as the guest lets go of; returns what stopped it."""


class Dimms:
    """pc-dimm devices, at most `slots` of them; each goes as a whole, if the guest can empty it."""

    def __init__(self, hotplug: Hotplug, slots: int) -> None:
        self._hotplug = hotplug
        self._slots = slots
        #: Size in MiB by number of the slot.
        self._plugged: dict[int, int] = {}

    @property
    def plugged_mib(self) -> int:
        """The sum of all DIMMs."""
        return sum(self._plugged.values())

    async def grow(self, mib: int, block_mib: int) -> None:
        """See `PluggableMemory`: one more DIMM of what is missing, rounded up.

        Who is cancelled hears of it when the DIMM is there: one that nobody knows of would keep its slot for ever.
        """
        missing = mib - self.plugged_mib
        if missing <= 0:
            return
        size = -(-missing // block_mib) * block_mib
        number = next((slot for slot in range(self._slots) if slot not in self._plugged), None)
        if number is None:
            raise HypervisorError(
                f"no free memory slot for {size} MiB: all {self._slots} are in use (see memory_slots)"
            )
        with anyio.CancelScope(shield=True):
            await self._add(number, size)

    async def _add(self, number: int, size: int) -> None:
        backend = {"qom-type": "memory-backend-memfd", "id": f"mem{number}", "size": size * _MIB, "share": True}
        await self._hotplug.execute("object-add", backend)
        try:
            await self._hotplug.add("pc-dimm", f"dimm{number}", {"memdev": f"mem{number}"})
        except HypervisorError:
            # QEMU may have made it, and answered too late.
            await self._hotplug.discard(f"dimm{number}")
            await self._forget(number)
            raise
        self._plugged[number] = size

    async def shrink(self, mib: int, timeout: float = UNPLUG_TIMEOUT) -> HypervisorError | None:
        """See `PluggableMemory`: the DIMMs that are surplus as a whole, the largest first."""
        for number, size in sorted(self._plugged.items(), key=lambda item: -item[1]):
            if size <= self.plugged_mib - mib:
                if error := await self._hotplug.discard(f"dimm{number}", timeout):
                    return error
                del self._plugged[number]
                await self._forget(number)
        return None

    async def _forget(self, number: int) -> None:
        """Give the memory behind a DIMM back to the host."""
        try:
            await self._hotplug.execute("object-del", {"id": f"mem{number}"})
        except HypervisorError as error:
            _log.warning("memory of DIMM %d stays with QEMU: %s", number, error)


class VirtioMem:
    """The one virtio-mem device of a VM that was started with it, of at most `size_mib`."""

    def __init__(self, hotplug: Hotplug, size_mib: int) -> None:
        self._hotplug = hotplug
        self._size_mib = size_mib
        self._plugged_mib = 0

    @property
    def plugged_mib(self) -> int:
        """What the guest had taken when it was last asked."""
        return self._plugged_mib

    async def grow(self, mib: int, block_mib: int) -> None:
        """See `PluggableMemory`; what a guest did not take in time, or nobody waits for any more, is taken back."""
        before = self._plugged_mib
        wanted = min(-(-mib // block_mib) * block_mib, self._size_mib)
        if wanted <= before:
            return
        try:
            await self._resize(wanted, RESIZE_TIMEOUT)
            if self._plugged_mib < wanted:
                taken = self._plugged_mib - before
                raise HypervisorError(f"the guest took {taken} of {wanted - before} MiB within {RESIZE_TIMEOUT:g} s")
        except BaseException:
            with anyio.CancelScope(shield=True), suppress(HypervisorError):
                await self._resize(before, 0)
            raise

    async def shrink(self, mib: int, timeout: float = UNPLUG_TIMEOUT) -> HypervisorError | None:
        """See `PluggableMemory`; the guest gives back what it can move its data away from."""
        if mib >= self._plugged_mib:
            return None
        try:
            await self._resize(mib, timeout)
        except QmpError as error:
            return error
        if self._plugged_mib <= mib:
            return None
        return HypervisorError(f"the guest gave back all but {self._plugged_mib - mib} MiB within {timeout:g} s")

    async def _resize(self, mib: int, timeout: float) -> None:
        """Ask for a size, and wait until the guest has it or the time is over; the truth is in `plugged_mib`."""
        async with self._hotplug.listening(_SIZE_CHANGE) as events:
            device = {"path": f"/machine/peripheral/{VIRTIO_MEM_ID}"}
            await self._hotplug.execute("qom-set", {**device, "property": "requested-size", "value": mib * _MIB})
            with anyio.move_on_after(timeout):
                while await self._ask() != mib:
                    with anyio.move_on_after(_LOOK_AGAIN):
                        await events.get()
        await self._ask()

    async def _ask(self) -> int:
        device = {"path": f"/machine/peripheral/{VIRTIO_MEM_ID}", "property": "size"}
        self._plugged_mib = int(await self._hotplug.execute("qom-get", device)) // _MIB
        return self._plugged_mib
