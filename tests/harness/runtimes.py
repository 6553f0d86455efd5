"""The runtimes a bed knows."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Runtime:
    """A runtime handler of CRI (`name`) and the runtime type that `ctr run --runtime` takes."""

    name: str
    type: str

    @property
    def binary(self) -> str:
        """The shim's file name, by containerd's rule for runtime types."""
        return "containerd-shim-" + "-".join(self.type.split(".")[-2:])


#: What this project makes: each pod in a virtual machine of its own.
KATA = Runtime("kata", "io.containerd.kata.v2")

#: The peer: containers on the host's kernel.
RUNC = Runtime("runc", "io.containerd.runc.v2")

#: The same with the containers' seccomp profiles applied in the guest.
KATA_SECCOMP = Runtime("kata-seccomp", "io.containerd.kata.v2")

#: The same under a containerd that gives privileged containers all devices of the host.
KATA_HOST_DEVICES = Runtime("kata-host-devices", "io.containerd.kata.v2")

#: By handler name.
RUNTIMES = {runtime.name: runtime for runtime in (KATA, RUNC)}
