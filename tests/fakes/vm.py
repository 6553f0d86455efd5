"""A VM without QEMU, for fault injection: it dies on command, hangs on shutdown, or never starts.

It obeys `tests.fakes.vm_contract`, as the real one does.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import anyio
import anyio.lowlevel

from hypervisor.errors import HypervisorError, IllegalStateError, VmGoneError
from hypervisor.hotplug.plug import Hotplug
from hypervisor.hotplug.slots import PciSlots
from hypervisor.nics import Nic
from hypervisor.vm import Diagnostics, Vm, VmExit
from tests.fakes.monitor import FakeMonitor

_pids = itertools.count(1 << 22)


class FakeVm(Vm):
    """Runs from `start` until `die`, `kill` or `shutdown`; the attributes say how it misbehaves."""

    def __init__(self, agent_url: str = "unix:///nonexistent/agent") -> None:
        self.url = agent_url
        self.console = ""
        self.stderr = ""
        #: Raised by `start`, if set.
        self.start_error: HypervisorError | None = None
        #: `start` waits for this event first, if set: for cancelling it, or killing the VM meanwhile.
        self.start_gate: anyio.Event | None = None
        #: Whether the orderly part of `shutdown` takes all the time it is given.
        self.hangs_on_shutdown = False
        #: What it was started with.
        self.nics: tuple[Nic, ...] = ()
        #: What was called, in order.
        self.calls: list[str] = []
        #: Its QMP: what was plugged in, and how that misbehaves.
        self.monitor = FakeMonitor(self._require_running)
        self._hotplug = Hotplug(self.monitor, PciSlots(1))
        self._pid = 0
        self._started = False
        self._paused = False
        self._exit: VmExit | None = None
        self._ended = anyio.Event()

    @property
    def agent_url(self) -> str:
        if not self._pid:
            raise IllegalStateError("the VM has not been started")
        return self.url

    @property
    def hotplug(self) -> Hotplug:
        return self._hotplug

    @property
    def pid(self) -> int:
        return self._pid

    @property
    def started(self) -> bool:
        return self._started and self._exit is None

    def die(
        self, reason: str = "QEMU was killed by SIGKILL", *, returncode: int | None = None, signal: int = 9
    ) -> None:
        """End it, as a crash would; `returncode` in place of `signal` if given."""
        if self._exit is None:
            self._exit = VmExit(returncode, signal if returncode is None else None, reason)
            self._ended.set()

    async def start(self, timeout: float, nics: Sequence[Nic] = ()) -> None:
        self.calls.append("start")
        self.nics = tuple(nics)
        if self._pid or self._exit:
            raise IllegalStateError("the VM was started or ended before")
        if self.start_error:
            self._exit = VmExit(1, None, str(self.start_error))
            raise self.start_error
        self._pid = next(_pids)
        try:
            with anyio.fail_after(timeout):
                await self._pass_gate()
        except TimeoutError as error:
            self.kill()
            raise HypervisorError(f"QEMU did not answer on its monitor within {timeout:g} s") from error
        except BaseException:
            self.kill()
            raise
        if self._exit:
            raise HypervisorError(self._exit.reason)
        self._started = True

    async def _pass_gate(self) -> None:
        if self.start_gate is None:
            await anyio.lowlevel.checkpoint()
            return
        async with anyio.create_task_group() as group:
            group.start_soon(self._cancel_at_end, group.cancel_scope)
            await self.start_gate.wait()
            group.cancel_scope.cancel()

    async def _cancel_at_end(self, scope: anyio.CancelScope) -> None:
        await self._ended.wait()
        scope.cancel()

    async def wait(self) -> VmExit:
        if not self._pid and self._exit is None:
            raise IllegalStateError("the VM has not been started")
        while self._exit is None:
            await self._ended.wait()
        return self._exit

    async def pause(self) -> None:
        self._require_running("pause")
        self._paused = True

    async def resume(self) -> None:
        self._require_running("resume")
        self._paused = False

    async def status(self) -> str:
        self._require_running("status")
        return "paused" if self._paused else "running"

    async def shutdown(self, timeout: float) -> None:
        self.calls.append("shutdown")
        if self.hangs_on_shutdown and self.started:
            with anyio.move_on_after(timeout):
                await self._ended.wait()
            self.kill()
        elif self.started:
            self.die("QEMU was told to quit", returncode=0)
        else:
            self.kill()

    def kill(self) -> None:
        self.calls.append("kill")
        if self._pid:
            self.die()
        elif self._exit is None:
            self._exit = VmExit(None, None, "QEMU was not started: the VM was ended before")

    def diagnostics(self) -> Diagnostics:
        return Diagnostics(self.stderr, self.console)

    def _require_running(self, call: str) -> None:
        self.calls.append(call)
        if self._exit:
            raise VmGoneError(self._exit.reason)
        if not self._started:
            raise IllegalStateError("the VM has not been started")
