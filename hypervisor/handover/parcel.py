"""What one process hands to another with a VM: descriptors by SCM_RIGHTS, facts as JSON.

The sender keeps its copies until the receiver has said that it has the VM in its journal: if the receiver dies before,
the sender ends the VM; if it dies after, the VM dies with it, for the lifeline was the receiver's alone.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from hypervisor.errors import HypervisorError
from hypervisor.wiring import AGENT_SOCKET

#: The descriptors, in this order.
DESCRIPTORS = ("pidfd", "lifeline", "answer", "stderr", "console", "monitor")
#: Longest text of facts in bytes: two tails of 48 KB at most, as JSON.
FACTS_LIMIT = 1 << 20


@dataclass(frozen=True)
class Facts:
    """What is known of the VM. `agent_socket` is the file behind `agent_url`, if that is one."""

    pid: int
    start_time: int
    guardian: int
    vcpus: int
    memory_mib: int
    agent_url: str
    agent_socket: str
    console: str
    stderr: str
    #: `cold` or `template`.
    origin: str = "cold"

    def encode(self) -> bytes:
        """As JSON, on one line."""
        return json.dumps(asdict(self)).encode() + b"\n"

    @classmethod
    def decode(cls, data: bytes) -> Facts:
        """From JSON; raises `HypervisorError` for what is not that."""
        try:
            found = json.loads(data)
            types: dict[str, type] = {
                name: (int if kind == "int" else str) for name, kind in cls.__annotations__.items()
            }
            if not isinstance(found, dict) or found.keys() != types.keys():
                raise ValueError("other fields than expected")
            for name, kind in types.items():
                if type(found[name]) is not kind:
                    raise ValueError(f"{name} is no {kind.__name__}")
        except ValueError as error:
            raise HypervisorError(f"the facts of a handed over VM make no sense: {error}") from error
        return cls(**found)


@dataclass
class Parcel:
    """A VM on its way: one of several owners may have it open. `close` it, or hand its descriptors on."""

    facts: Facts
    fds: dict[str, int]

    @classmethod
    def received(cls, facts: Facts, fds: Sequence[int]) -> Parcel:
        """From what arrived, whose descriptors are its own now; raises `HypervisorError` if some are missing."""
        if len(fds) != len(DESCRIPTORS):
            for fd in fds:
                os.close(fd)
            raise HypervisorError(f"{len(fds)} descriptors came with a VM that has {len(DESCRIPTORS)}")
        return cls(facts, dict(zip(DESCRIPTORS, fds, strict=True)))

    @property
    def descriptors(self) -> list[int]:
        """In the order of `DESCRIPTORS`."""
        return [self.fds[name] for name in DESCRIPTORS]

    def take(self, name: str) -> int:
        """One descriptor, which is the caller's then."""
        return self.fds.pop(name)

    def move_agent(self, run_dir: Path) -> None:
        """Have the agent's socket in the receiver's run directory: where it is it goes with the giver.

        Raises `HypervisorError`.
        """
        if self.facts.agent_socket:
            path = run_dir / AGENT_SOCKET
            try:
                Path(self.facts.agent_socket).rename(path)
            except OSError as error:
                raise HypervisorError(f"the agent's socket of a handed over VM: {error.strerror}") from error
            self.facts = replace(self.facts, agent_url=f"serial://{path}", agent_socket=str(path))

    def kill(self) -> None:
        """SIGKILL to QEMU, whoever else has the parcel; idempotent."""
        pidfd = self.fds.get("pidfd")
        if pidfd is not None:
            try:
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            except ProcessLookupError:
                pass

    def close(self) -> None:
        """Close our descriptors: if nobody else has the lifeline the VM ends. Idempotent."""
        for fd in self.fds.values():
            os.close(fd)
        self.fds.clear()
