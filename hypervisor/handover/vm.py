"""The VM at both ends of a hand-over: the one that is booted to be given away, and the one that was received."""

from __future__ import annotations

import asyncio
import os
import socket
from dataclasses import replace
from pathlib import Path

from hypervisor.clock import clocked
from hypervisor.command_line import Inherited, command_line
from hypervisor.errors import HypervisorError, IllegalStateError
from hypervisor.handover.guardian import FIRST, Guarded, launch
from hypervisor.handover.parcel import Facts, Parcel
from hypervisor.handover.process import GuardedProcess
from hypervisor.qemu import CONSOLE_KEEP, QemuVm, _Process
from hypervisor.tail import TailReader
from hypervisor.vm import OnSpawn, VmSpec
from hypervisor.wiring import Wiring, wire

#: Where QEMU finds what it inherits through its guardian.
_MONITOR, _CONSOLE, _AGENT, _SPARE, _MEMORY = range(FIRST, FIRST + 5)


class GivenVm(QemuVm):
    """A VM that is started to be handed over: under a guardian, with a second monitor that greets its later owner."""

    def __init__(self, spec: VmSpec, on_spawn: OnSpawn | None = None, niceness: int = 0) -> None:
        """`niceness` is what it has until it is handed over (nice(2))."""
        super().__init__(spec, on_spawn)
        self._niceness = niceness
        self._guardian = 0

    def _launch(self) -> _Process:
        with wire(self._spec, with_spare=True) as wiring:
            guarded = launch(*_guarded(clocked(self._spec), wiring), self._spec.run_dir, self._niceness)
            _watch_guardian(guarded.guardian)
            self._guardian = guarded.guardian
            try:
                if self._on_spawn:
                    self._on_spawn(guarded.pid)
            except BaseException:
                _close(guarded)
                raise
        stderr = TailReader(guarded.stderr)
        child = GuardedProcess(guarded.pid, guarded.pidfd, guarded.lifeline, guarded.answer, stderr)
        return _Process(child, TailReader(wiring.console.detach(), keep=CONSOLE_KEEP), wiring)

    async def release(self, start_time: int, origin: str) -> Parcel:
        """Make a parcel of it: nothing of it is ours any more then. Only while it runs.

        `start_time` is QEMU's, in clock ticks since boot. Raises `HypervisorError`.
        """
        process, spec = self._spawned(), self._spec
        child, spare = process.child, process.wiring.spare
        if not self.started or not isinstance(child, GuardedProcess) or spare is None or process.qmp is None:
            raise IllegalStateError(f"VM {spec.name} can't be handed over: it does not run")
        told, socket_path = self.diagnostics(), process.wiring.agent_socket
        await process.qmp.close()
        if child.returncode is not None:
            raise HypervisorError((await self.wait()).reason)
        facts = Facts(
            pid=child.pid,
            start_time=start_time,
            guardian=self._guardian,
            vcpus=spec.vcpus,
            memory_mib=spec.memory_mib,
            agent_url=process.wiring.agent_url,
            agent_socket=str(socket_path or ""),
            console=told.console_tail,
            stderr=told.stderr_tail,
            origin=origin,
        )
        pidfd, lifeline, answer, stderr = child.release()
        _be_nice(child.pid, 0)
        console, monitor = process.console.release(), spare.detach()
        return Parcel.received(facts, [pidfd, lifeline, answer, stderr, console, monitor])

    def _given_back(self, process: _Process) -> None:
        super()._given_back(process)
        if process.wiring.spare is not None:
            process.wiring.spare.close()


class ReceivedVm(QemuVm):
    """A VM that came in a parcel. Its `start` greets on the monitor: it runs already, with its vCPUs stopped."""

    def __init__(self, spec: VmSpec, parcel: Parcel) -> None:
        """`parcel` is used up by `start`, and closed by `kill`."""
        super().__init__(replace(spec, saved=None))
        self._parcel = parcel

    def _launch(self) -> _Process:
        parcel, facts = self._parcel, self._parcel.facts
        socket_path = Path(facts.agent_socket) if facts.agent_socket else None
        stderr, console = (TailReader(parcel.take(name), keep=CONSOLE_KEEP) for name in ("stderr", "console"))
        stderr.tail.feed(facts.stderr.encode())
        console.tail.feed(facts.console.encode())
        pidfd, lifeline, answer = (parcel.take(name) for name in ("pidfd", "lifeline", "answer"))
        child = GuardedProcess(facts.pid, pidfd, lifeline, answer, stderr)
        monitor = socket.socket(fileno=parcel.take("monitor"))
        # The console's reader has its descriptor already: what is in the wiring is not used.
        unused = socket.socket(socket.AF_UNIX)
        unused.close()
        return _Process(child, console, Wiring(monitor, unused, Inherited(-1, -1), facts.agent_url, socket_path))

    def kill(self) -> None:
        """SIGKILL to QEMU, before its start too."""
        self._parcel.kill()
        self._parcel.close()
        super().kill()


def _guarded(spec: VmSpec, wiring: Wiring) -> tuple[list[str], dict[int, int]]:
    """QEMU's command line with the descriptors it will find, and where those come from."""
    ends = wiring.inherited
    places = {_MONITOR: ends.monitor, _CONSOLE: ends.console, _SPARE: ends.spare_monitor}
    places[_AGENT] = ends.agent_listener if ends.agent_listener is not None else ends.vhost_vsock
    found = replace(
        ends,
        monitor=_MONITOR,
        console=_CONSOLE,
        spare_monitor=_SPARE,
        agent_listener=_AGENT if ends.agent_listener is not None else None,
        vhost_vsock=_AGENT if ends.vhost_vsock is not None else None,
    )
    if spec.saved is not None:
        places[_MEMORY] = spec.saved.memory
        spec = replace(spec, saved=replace(spec.saved, memory=_MEMORY))
    return command_line(spec, found), {number: fd for number, fd in places.items() if fd is not None}


def _close(guarded: Guarded) -> None:
    """Nobody owns it: its guardian sees to its end."""
    for fd in (guarded.pidfd, guarded.lifeline, guarded.answer, guarded.stderr):
        os.close(fd)


def _watch_guardian(pid: int) -> None:
    """Reap a guardian when it ends, whoever has its VM then."""
    loop = asyncio.get_running_loop()
    pidfd = os.pidfd_open(pid)

    def reap() -> None:
        loop.remove_reader(pidfd)
        os.close(pidfd)
        try:
            os.waitpid(pid, 0)
        except ChildProcessError:
            pass

    loop.add_reader(pidfd, reap)


def _be_nice(pid: int, niceness: int) -> None:
    """Set the niceness of all threads of a process, if it is there; those it starts later inherit it."""
    try:
        threads = os.listdir(f"/proc/{pid}/task")
    except (FileNotFoundError, ProcessLookupError):
        return
    for thread in threads:
        try:
            os.setpriority(os.PRIO_PROCESS, int(thread), niceness)
        except (ProcessLookupError, PermissionError):
            continue
