"""Booting a VM and saving it as a template.

Whatever ends the builder, nothing of a half-built template is ever used: QEMU dies with it, the lock is freed by the
kernel, and the next builder removes what is left. A template that was saved is restored once before it is published.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from pathlib import Path

import anyio

from hypervisor.errors import HypervisorError
from hypervisor.qemu import QemuVm
from hypervisor.template.migration import save
from hypervisor.template.store import MEMORY, STATE, TemplateStore
from hypervisor.vm import OnSpawn, SavedState, VmSpec

#: Seconds for QEMU to be up, and to save.
START_TIMEOUT = 20.0
SAVE_TIMEOUT = 20.0
#: A guest that takes less than this part of a CPU for so many seconds is idle; seconds that it may take to be so.
QUIET_LOAD, QUIET_TIME = 0.1, 0.2
SETTLE_TIMEOUT = 5.0
_MIB = 1 << 20

#: Given the agent's URL of a running VM: entered when the agent has answered, left when the connection is closed again.
#: It yields what the guest says of itself, for its clones.
Visit = Callable[[str], AbstractAsyncContextManager[bytes]]


async def build(store: TemplateStore, key: str, spec: VmSpec, visit: Visit, on_spawn: OnSpawn | None = None) -> bool:
    """Build the template `key` of `spec`; returns whether this made it.

    False if it is there, if somebody else is building, or if a build has failed lately. Raises `HypervisorError` or
    what `visit` raises; then it is not tried again for a while.
    """
    with store.building(key) as place:
        if place is None:
            return False
        try:
            _check_room(place, spec.memory_mib)
            guest = await _save_one(place, spec, visit, on_spawn)
            await _try(place, spec, visit, on_spawn)
            store.publish(key, guest, _description(spec))
        except Exception:
            store.mark_failed(key)
            raise
    return True


def _check_room(place: Path, memory_mib: int) -> None:
    about = os.statvfs(place)
    free = about.f_bavail * about.f_frsize // _MIB
    if free < memory_mib:
        raise HypervisorError(f"{place.parent} has room for {free} MiB, and a template may need {memory_mib}")


def _description(spec: VmSpec) -> dict[str, object]:
    files = {"kernel": str(spec.kernel), "initrd": str(spec.initrd or ""), "image": str(spec.image or "")}
    return {"vcpus": spec.vcpus, "memory_mib": spec.memory_mib, "accelerator": spec.accelerator, **files}


async def _save_one(place: Path, spec: VmSpec, visit: Visit, on_spawn: OnSpawn | None) -> bytes:
    """Saved while the agent has a session and waits: a clone's connection takes its place, which is least work."""
    vm = QemuVm(replace(spec, run_dir=place, ram_file=place / MEMORY), on_spawn)
    try:
        await vm.start(START_TIMEOUT)
        async with visit(vm.agent_url) as guest:
            await _settled(vm.pid)
            await vm.pause()
            state = os.open(place / STATE, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            try:
                await save(vm.hotplug, state, SAVE_TIMEOUT)
            finally:
                os.close(state)
        return guest
    finally:
        await _end(vm)


async def _settled(pid: int) -> None:
    """Wait until the guest has nothing to do, which every clone would have to do anew; at most `SETTLE_TIMEOUT`."""
    end = time.monotonic() + SETTLE_TIMEOUT
    before, after = -float("inf"), process_time(pid)
    while after - before > QUIET_LOAD * QUIET_TIME and time.monotonic() < end:
        await anyio.sleep(QUIET_TIME)
        before, after = after, process_time(pid)


def process_time(pid: int) -> float:
    """Seconds of processor time that a process has taken so far, in steps of 10 ms (proc(5), stat)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def _try(place: Path, spec: VmSpec, visit: Visit, on_spawn: OnSpawn | None) -> None:
    """Restore what was saved, once: what does not work must not become a template."""
    memory = os.open(place / MEMORY, os.O_RDWR | os.O_CLOEXEC)
    state = os.open(place / STATE, os.O_RDONLY | os.O_CLOEXEC)
    try:
        vm = QemuVm(replace(spec, run_dir=place, saved=SavedState(memory, state, is_shared=False)), on_spawn)
        try:
            await vm.start(START_TIMEOUT)
            await vm.resume()
            async with visit(vm.agent_url):
                pass
        finally:
            await _end(vm)
    finally:
        os.close(memory)
        os.close(state)


async def _end(vm: QemuVm) -> None:
    """Its memory is in the file: there is nothing to put in order."""
    vm.kill()
    if vm.pid:
        with anyio.CancelScope(shield=True):
            await vm.wait()
