"""A VM in a QEMU process: the q35 board, monitored over QMP.

Its start: look at the files, open the wiring, spawn, greet on the monitor. QEMU runs the vCPUs before it greets, so
the guest boots meanwhile. Its end, whatever the cause, is told by the pidfd; then the tails are read out, the last QMP
events are taken, and everything is given back.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Callable
from enum import Enum

import anyio

from hypervisor import boot_files, sockets
from hypervisor.command_line import command_line
from hypervisor.errors import HypervisorError, IllegalStateError, QmpError, VmGoneError
from hypervisor.evidence import describe_end, last_words
from hypervisor.process import ChildProcess, spawn
from hypervisor.qmp import QmpSession
from hypervisor.tail import TailReader
from hypervisor.vm import Diagnostics, OnSpawn, Vm, VmExit, VmSpec
from hypervisor.wiring import Wiring, wire

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


class QemuVm(Vm):
    """The `Vm` that QEMU runs. Needs a running event loop from `start` on."""

    def __init__(self, spec: VmSpec, on_spawn: OnSpawn | None = None) -> None:
        """`on_spawn` gets QEMU's pid before anything is waited for."""
        self._spec = spec
        self._on_spawn = on_spawn
        self._state = _State.NEW
        self._wiring: Wiring | None = None
        self._child: ChildProcess | None = None
        self._console: TailReader | None = None
        self._qmp: QmpSession | None = None
        self._exit: VmExit | None = None

    @property
    def agent_url(self) -> str:
        """`serial:///<run_dir>/agent` or `vsock://<cid>:1024`."""
        if self._wiring is None:
            raise IllegalStateError(f"VM {self._spec.name} {_State.NEW.value}: its agent has no address yet")
        return self._wiring.agent_url

    @property
    def pid(self) -> int:
        """QEMU's process id."""
        return self._child.pid if self._child else 0

    @property
    def started(self) -> bool:
        """Whether QEMU runs and has greeted."""
        return self._state is _State.RUNNING

    async def start(self, timeout: float) -> None:
        """See `Vm.start`; what QEMU is told is in `command_line`."""
        self._require(_State.NEW)
        self._state = _State.STARTING
        try:
            boot_files.check(self._spec)
            self._launch()
        except BaseException as error:
            self._end_unborn(f"QEMU was not started: {error}")
            raise
        try:
            await self._greet(timeout)
        except BaseException:
            self.kill()
            with anyio.CancelScope(shield=True):
                await self._taken_apart()
            raise
        self._state = _State.RUNNING

    async def wait(self) -> VmExit:
        """See `Vm.wait`."""
        if self._child is None and self._exit is None:
            self._require(_State.ENDED)
        if self._child is not None:
            await self._child.wait()
        return await self._conclude()

    async def pause(self) -> None:
        """QMP `stop`."""
        await self._execute("stop")

    async def resume(self) -> None:
        """QMP `cont`."""
        await self._execute("cont")

    async def status(self) -> str:
        """QMP `query-status`."""
        return str((await self._execute("query-status"))["status"])

    async def shutdown(self, timeout: float) -> None:
        """QMP `quit` flushes and closes what QEMU has open; the guest is not asked, its agent has synced."""
        try:
            if self._qmp is not None and self._child is not None:
                async with asyncio.timeout(timeout):
                    await self._qmp.execute("quit", timeout=timeout)
                    await self._child.wait()
        except (QmpError, TimeoutError) as error:
            if self._state is _State.RUNNING:
                _log.warning("VM %s did not quit (%s): killing it", self._spec.name, error or "timed out")
        finally:
            self.kill()
        await self._taken_apart()

    def kill(self) -> None:
        """SIGKILL to QEMU through its pidfd."""
        if self._child is not None:
            self._child.kill()
        else:
            self._end_unborn("QEMU was not started: the VM was ended before")

    def diagnostics(self) -> Diagnostics:
        """The tails of QEMU's standard error and of the first serial port."""
        return Diagnostics(
            self._child.stderr_tail if self._child else "", self._console.tail.text() if self._console else ""
        )

    def _require(self, *states: _State) -> None:
        if self._state not in states:
            raise IllegalStateError(f"VM {self._spec.name} {self._state.value}")

    def _launch(self) -> None:
        """Spawn QEMU. No await in here: whoever sees the VM being started sees its process."""
        with wire(self._spec) as wiring:
            self._child = spawn(
                command_line(self._spec, wiring.inherited),
                fds=wiring.fds,
                cwd=self._spec.run_dir,
                on_spawn=self._on_spawn,
                on_line=self._line_log("QEMU"),
            )
        self._wiring = wiring
        self._console = TailReader(wiring.console.detach(), keep=CONSOLE_KEEP, on_line=self._line_log("console"))
        self._child.on_exit(self._given_back)

    async def _greet(self, timeout: float) -> None:
        assert self._wiring is not None
        try:
            self._qmp = await QmpSession.over_socket(self._wiring.monitor, timeout)
        except ConnectionError as error:
            raise HypervisorError((await self._taken_apart()).reason) from error
        except QmpError as error:
            words = last_words(self.diagnostics().console_tail)
            raise QmpError(f"{error} (last on its console: {words})" if words else str(error)) from error

    async def _execute(self, command: str) -> dict[str, object]:
        if self._state is _State.ENDED:
            raise VmGoneError((await self.wait()).reason)
        self._require(_State.RUNNING)
        assert self._qmp is not None
        try:
            result: dict[str, object] = await self._qmp.execute(command)
        except QmpError as error:
            if not self._qmp.connected:
                raise VmGoneError((await self._taken_apart()).reason) from error
            raise
        return result

    async def _taken_apart(self) -> VmExit:
        """Wait for the end of a QEMU that is dying or hung up; one that only hung up is killed."""
        assert self._child is not None or self._exit is not None
        for _ in range(2):
            with anyio.move_on_after(REAP_TIMEOUT):
                return await self.wait()
            self.kill()
        _log.error("QEMU process %d of VM %s can't be killed", self.pid, self._spec.name)
        return VmExit(None, None, f"QEMU process {self.pid} can't be killed")

    async def _conclude(self) -> VmExit:
        if self._qmp is not None:
            await self._qmp.drain()
            await self._qmp.close()
        if self._exit is None:
            self._exit = self._describe()
        return self._exit

    def _describe(self) -> VmExit:
        assert self._child is not None
        assert self._child.returncode is not None
        code = self._child.returncode
        events = self._qmp.events if self._qmp else ()
        causes = [str(event.data.get("reason")) for event in events if event.name == "SHUTDOWN"]
        evidence = self.diagnostics()
        reason = describe_end(code, causes[-1] if causes else None, evidence.stderr_tail, evidence.console_tail)
        return VmExit(code if code >= 0 else None, -code if code < 0 else None, reason)

    def _given_back(self) -> None:
        """QEMU is reaped: read out the console, remove the agent's socket. The rest went with the process."""
        self._state = _State.ENDED
        if self._console is not None:
            self._console.finish()
        if self._wiring is not None and self._wiring.agent_socket is not None:
            sockets.remove(self._wiring.agent_socket)

    def _end_unborn(self, reason: str) -> None:
        self._state = _State.ENDED
        if self._exit is None:
            self._exit = VmExit(None, None, reason)

    def _line_log(self, source: str) -> Callable[[str], None] | None:
        if not self._spec.debug:
            return None
        return functools.partial(_log.debug, "%s %s: %s", self._spec.name, source)
