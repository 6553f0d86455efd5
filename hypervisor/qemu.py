"""A VM in a QEMU process: the q35 board, monitored over QMP.

Its start: look at the files, open the wiring, spawn, greet on the monitor. QEMU runs the vCPUs before it greets, so
the guest boots meanwhile. Its end, whatever the cause, is told by the pidfd; then the tails are read out, the last QMP
events are taken, and everything is given back.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING

import anyio

from hypervisor import boot_files, sockets
from hypervisor.clock import clocked
from hypervisor.command_line import command_line
from hypervisor.errors import HypervisorError, IllegalStateError, QmpError, VmGoneError
from hypervisor.evidence import describe_end, last_words
from hypervisor.hotplug.plug import Hotplug
from hypervisor.hotplug.slots import PciSlots
from hypervisor.monitor import VmMonitor
from hypervisor.nics import Nic
from hypervisor.process import ChildProcess, spawn
from hypervisor.qmp import QmpSession
from hypervisor.tail import TailReader
from hypervisor.vm import Diagnostics, OnSpawn, Vm, VmExit, VmSpec
from hypervisor.wiring import Wiring, wire

if TYPE_CHECKING:
    from hypervisor.handover.process import GuardedProcess

_log = logging.getLogger(__name__)
#: Bytes of console kept: a panic with its stack trace takes some 4 KiB.
CONSOLE_KEEP = 32 * 1024
#: Seconds for the kernel to take a killed process apart.
REAP_TIMEOUT = 5.0


class _State(Enum):
    """Life of a VM; it only moves down this list."""

    NEW = "has not been started"
    STARTING = "is being started"
    RUNNING = "runs"
    ENDED = "has ended"


@dataclass
class _Process:
    """What there is from the spawn on."""

    child: ChildProcess | GuardedProcess
    console: TailReader
    wiring: Wiring
    #: From the greeting on.
    qmp: QmpSession | None = None


class QemuVm(Vm):
    """The `Vm` that QEMU runs. Needs a running event loop from `start` on."""

    def __init__(self, spec: VmSpec, on_spawn: OnSpawn | None = None) -> None:
        """`on_spawn` gets QEMU's pid before anything is waited for."""
        self._spec = spec
        self._on_spawn = on_spawn
        self._state = _State.NEW
        self._process: _Process | None = None
        self._exit: VmExit | None = None
        self._monitor = VmMonitor(self._session, self._taken_apart)
        self._hotplug = Hotplug(self._monitor, PciSlots(spec.pci_bridges))

    @property
    def hotplug(self) -> Hotplug:
        """By this VM's own QMP session."""
        return self._hotplug

    @property
    def agent_url(self) -> str:
        """`serial:///<run_dir>/agent` or `vsock://<cid>:1024`."""
        return self._spawned().wiring.agent_url

    @property
    def pid(self) -> int:
        """QEMU's process id."""
        return self._process.child.pid if self._process else 0

    @property
    def started(self) -> bool:
        """Whether QEMU runs and has greeted."""
        return self._state is _State.RUNNING

    async def start(self, timeout: float, nics: Sequence[Nic] = ()) -> None:
        """See `Vm.start`; what QEMU is told is in `command_line`."""
        if self._state is not _State.NEW:
            raise IllegalStateError(f"VM {self._spec.name} {self._state.value}: it can't be started")
        self._state = _State.STARTING
        self._spec = replace(self._spec, nics=(*self._spec.nics, *nics))
        try:
            boot_files.check(self._spec)
            process = self._process = self._launch()
            process.child.on_exit(functools.partial(self._given_back, process))
        except BaseException as error:
            self._end_unborn(f"QEMU was not started: {error}")
            raise
        try:
            process.qmp = await self._greet(process, timeout)
            await self._restore(timeout)
        except BaseException:
            self.kill()
            with anyio.CancelScope(shield=True):
                await self._taken_apart()
            raise
        if process.child.returncode is None:
            self._state = _State.RUNNING

    async def _restore(self, timeout: float) -> None:
        """Read the saved state, if this VM has one."""
        if (saved := self._spec.saved) is not None:
            from hypervisor.template.migration import restore

            if saved.complete is not None:
                await saved.complete()
            await restore(self._hotplug, saved.state, timeout)

    async def wait(self) -> VmExit:
        """See `Vm.wait`."""
        if self._process is not None:
            await self._process.child.wait()
            if self._process.qmp is not None:
                await self._process.qmp.drain()
                await self._process.qmp.close()
            self._exit = self._exit or self._describe(self._process)
        if self._exit is None:
            raise IllegalStateError(f"VM {self._spec.name} {self._state.value}: there is no end to wait for")
        return self._exit

    async def pause(self) -> None:
        """QMP `stop`."""
        await self._monitor.execute("stop")

    async def resume(self) -> None:
        """QMP `cont`."""
        await self._monitor.execute("cont")

    async def status(self) -> str:
        """QMP `query-status`."""
        return str((await self._monitor.execute("query-status"))["status"])

    async def shutdown(self, timeout: float) -> None:
        """QMP `quit` flushes and closes what QEMU has open; the guest is not asked, its agent has synced."""
        process = self._process
        try:
            if process is not None and process.qmp is not None:
                async with asyncio.timeout(timeout):
                    await _quit(process.qmp, timeout)
                    await process.child.wait()
        except (QmpError, TimeoutError) as error:
            if self.started:
                _log.warning("VM %s did not quit (%s): killing it", self._spec.name, error or "timed out")
        finally:
            self.kill()
        await self._taken_apart()

    def kill(self) -> None:
        """SIGKILL to QEMU through its pidfd."""
        if self._process is not None:
            self._process.child.kill()
        else:
            self._end_unborn("QEMU was not started: the VM was ended before")

    def diagnostics(self) -> Diagnostics:
        """The tails of QEMU's standard error and of the first serial port."""
        if self._process is None:
            return Diagnostics()
        return Diagnostics(self._process.child.stderr_tail, self._process.console.tail.text())

    def _spawned(self) -> _Process:
        if self._process is None:
            raise IllegalStateError(f"VM {self._spec.name} {self._state.value}: it has no process")
        return self._process

    def _launch(self) -> _Process:
        """Spawn QEMU. No await in here: whoever sees the VM being started sees its process."""
        with wire(self._spec) as wiring:
            child = spawn(
                command_line(clocked(self._spec), wiring.inherited),
                fds=(*wiring.fds, *_own_fds(self._spec)),
                cwd=self._spec.run_dir,
                on_spawn=self._on_spawn,
                on_line=self._line_log("QEMU"),
            )
        console = TailReader(wiring.console.detach(), keep=CONSOLE_KEEP, on_line=self._line_log("console"))
        return _Process(child, console, wiring)

    async def _greet(self, process: _Process, timeout: float) -> QmpSession:
        try:
            return await QmpSession.over_socket(process.wiring.monitor, timeout)
        except ConnectionError as error:
            raise HypervisorError((await self._taken_apart()).reason) from error
        except QmpError as error:
            words = last_words(process.console.tail.text())
            raise QmpError(f"{error} (last on its console: {words})" if words else str(error)) from error

    async def _session(self, what: str) -> QmpSession:
        """The QMP session, for `what`."""
        if self._state is _State.ENDED:
            raise VmGoneError((await self.wait()).reason)
        qmp = self._spawned().qmp
        if qmp is None:
            raise IllegalStateError(f"VM {self._spec.name} {self._state.value}: {what} is for one that runs")
        return qmp

    async def _taken_apart(self) -> VmExit:
        """The end of a QEMU that dies or has hung up; one that does not die by itself is killed."""
        for _ in range(2):
            with anyio.move_on_after(REAP_TIMEOUT):
                return await self.wait()
            self.kill()
        _log.error("QEMU process %d of VM %s can't be killed", self.pid, self._spec.name)
        return VmExit(None, None, f"QEMU process {self.pid} can't be killed")

    def _describe(self, process: _Process) -> VmExit:
        code = process.child.returncode or 0
        events = process.qmp.events if process.qmp else ()
        causes = [str(event.data.get("reason")) for event in events if event.name == "SHUTDOWN"]
        told = self.diagnostics()
        reason = describe_end(code, causes[-1] if causes else None, told.stderr_tail, told.console_tail)
        return VmExit(code if code >= 0 else None, -code if code < 0 else None, reason)

    def _given_back(self, process: _Process) -> None:
        """QEMU is reaped: read out the console, remove the agent's socket. The rest went with the process."""
        self._state = _State.ENDED
        process.console.finish()
        if process.wiring.agent_socket is not None:
            sockets.remove(process.wiring.agent_socket)

    def _end_unborn(self, reason: str) -> None:
        self._state = _State.ENDED
        self._exit = self._exit or VmExit(None, None, reason)

    def _line_log(self, source: str) -> Callable[[str], None] | None:
        return functools.partial(_log.debug, "%s %s: %s", self._spec.name, source) if self._spec.debug else None


def _own_fds(spec: VmSpec) -> list[int]:
    """The descriptors that the spec names."""
    nics = [fd for nic in spec.nics for fd in nic.fds]
    return [spec.saved.memory, *nics] if spec.saved is not None else nics


async def _quit(qmp: QmpSession, timeout: float) -> None:
    """Tell QEMU to quit; one that has hung up is doing so already, as when its guest powers off."""
    try:
        await qmp.execute("quit", timeout=timeout)
    except QmpError:
        if qmp.connected:
            raise
