"""Where the agent keeps what on the guest's file system.

Two trees: `shared_run` is Kata's, and the host names paths in it (storages, root file systems, volumes). `state` is the
agent's own, and no path that a host gives may point there.
"""

from __future__ import annotations


class Layout:
    """The agent's directories; the defaults are the guest's, tests give their own."""

    __slots__ = ("cgroup", "dev", "proc", "shared_run", "state", "sys")

    def __init__(
        self,
        shared_run: str = "/run/kata-containers",
        state: str = "/run/kata-agent",
        cgroup: str = "/sys/fs/cgroup",
        proc: str = "/proc",
        sys: str = "/sys",
        dev: str = "/dev",
    ) -> None:
        self.shared_run = shared_run
        self.state = state
        self.cgroup = cgroup
        self.proc = proc
        self.sys = sys
        self.dev = dev

    @property
    def shared_containers(self) -> str:
        """The share of the host: root file systems and volumes; `CopyFile` is confined to it."""
        return f"{self.shared_run}/shared/containers"

    @property
    def sandbox(self) -> str:
        """What belongs to the pod: shared memory, namespaces, resolv.conf."""
        return f"{self.shared_run}/sandbox"

    @property
    def crun_root(self) -> str:
        """crun's state directory."""
        return f"{self.state}/crun"

    @property
    def consoles(self) -> str:
        """Sockets on which crun hands over terminals; short, for a socket's path holds 107 bytes."""
        return f"{self.state}/tty"

    def bundle(self, container_id: str) -> str:
        """The OCI bundle of a container."""
        return f"{self.state}/bundles/{container_id}"

    def container_cgroup(self, container_id: str) -> str:
        """The directory of a container's cgroup."""
        return self.cgroup + cgroups_path(container_id)


def cgroups_path(container_id: str) -> str:
    """The `linux.cgroupsPath` of a container, relative to the cgroup root."""
    return f"/kata/{container_id}"
