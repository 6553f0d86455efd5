"""What connects the daemon with one QEMU: a socket pair each for monitor and console, and the agent's way in.

All of it exists before QEMU does, so nothing is polled for, and QEMU's end of each is closed on our side once it has
been inherited: whatever kills QEMU is an end of file here.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from hypervisor import sockets, vsock
from hypervisor.command_line import Inherited
from hypervisor.vm import AGENT_VSOCK_PORT, VmSpec

#: The agent's socket in the run directory, when it is reached over virtio-serial.
AGENT_SOCKET = "agent"


@dataclass(frozen=True)
class Wiring:
    """Our ends, what QEMU inherits, and where the agent will answer."""

    monitor: socket.socket
    console: socket.socket
    inherited: Inherited
    agent_url: str
    #: To be removed when the VM has ended.
    agent_socket: Path | None = None
    #: Our end of the second monitor, if there is one.
    spare: socket.socket | None = None

    @property
    def fds(self) -> tuple[int, ...]:
        """The descriptors QEMU must inherit, under these numbers."""
        ends = self.inherited
        every = (ends.monitor, ends.console, ends.agent_listener, ends.vhost_vsock, ends.spare_monitor)
        return tuple(fd for fd in every if fd is not None)


@contextmanager
def wire(spec: VmSpec, with_spare: bool = False) -> Iterator[Wiring]:
    """Open everything for the time of the spawn: QEMU's ends are closed at the end, ours only if that failed.

    `with_spare`: a second monitor too.

    Raises HypervisorError when the agent's socket can't be bound, or the host has no vsock.
    """
    with ExitStack() as theirs, ExitStack() as ours:
        monitor, monitor_end = socket.socketpair()
        console, console_end = socket.socketpair()
        for stack, *ends in ((ours, monitor, console), (theirs, monitor_end, console_end)):
            for end in ends:
                stack.enter_context(end)
        spare, spare_fd = None, None
        if with_spare:
            spare, spare_end = socket.socketpair()
            ours.enter_context(spare)
            spare_fd = theirs.enter_context(spare_end).fileno()
        agent = _wire_agent(spec, ours, theirs)
        inherited = Inherited(
            monitor_end.fileno(), console_end.fileno(), agent.listener, agent.vhost, agent.cid, spare_fd
        )
        yield Wiring(monitor, console, inherited, agent.url, agent.socket, spare)
        ours.pop_all()


@dataclass(frozen=True)
class _Agent:
    url: str
    listener: int | None = None
    socket: Path | None = None
    vhost: int | None = None
    cid: int | None = None


def _wire_agent(spec: VmSpec, ours: ExitStack, theirs: ExitStack) -> _Agent:
    if spec.agent_channel == "vsock":
        vhost, cid = vsock.open_vhost_vsock()
        theirs.callback(os.close, vhost)
        return _Agent(f"vsock://{cid}:{AGENT_VSOCK_PORT}", vhost=vhost, cid=cid)
    path = spec.run_dir / AGENT_SOCKET
    listener = theirs.enter_context(sockets.listen(path))
    ours.callback(sockets.remove, path)
    return _Agent(f"serial://{path}", listener=listener.fileno(), socket=path)
