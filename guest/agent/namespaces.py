"""The namespaces that all containers of a sandbox share: IPC and UTS, kept alive by bind mounts of their nsfs files.

The agent enters new ones, pins them, and goes back, all in one synchronous step: nothing else of the agent runs
meanwhile, so no process is ever started in the wrong namespace.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from guest.agent import kernel
from guest.agent.errors import failed

KINDS: dict[str, int] = {"ipc": kernel.CLONE_NEWIPC, "uts": kernel.CLONE_NEWUTS}


class SharedNamespaces:
    """The sandbox' namespaces, pinned in `directory`."""

    def __init__(self, directory: str) -> None:
        self._directory = directory

    def path(self, kind: str) -> str:
        """Where the namespace (`ipc` or `uts`) can be joined."""
        return f"{self._directory}/{kind}"

    def create(self, hostname: str) -> None:
        """Make and pin them; `hostname`, if not empty, becomes theirs. Rolls back if it can't."""
        os.makedirs(self._directory, exist_ok=True)
        try:
            with _restored():
                kernel.unshare(kernel.CLONE_NEWIPC | kernel.CLONE_NEWUTS)
                if hostname:
                    socket.sethostname(hostname)
                for kind in KINDS:
                    os.close(os.open(self.path(kind), os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o400))
                    kernel.mount(f"/proc/self/ns/{kind}", self.path(kind), "", kernel.MS_BIND)
        except OSError as error:
            self.remove()
            raise failed("share namespaces", error) from error

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Be inside for a synchronous step, such as setting a sysctl."""
        with _restored():
            for kind, flag in KINDS.items():
                fd = os.open(self.path(kind), os.O_RDONLY | os.O_CLOEXEC)
                try:
                    kernel.setns(fd, flag)
                finally:
                    os.close(fd)
            yield

    def remove(self) -> None:
        """Unpin them; idempotent."""
        for kind in KINDS:
            try:
                kernel.unmount(self.path(kind), kernel.MNT_DETACH)
            except OSError:
                # Not pinned: nothing is left to undo but the file.
                pass
            try:
                os.unlink(self.path(kind))
            except OSError:
                pass


@contextmanager
def _restored() -> Iterator[None]:
    """Come back to the present IPC and UTS namespaces at the end."""
    fds: list[tuple[int, int]] = []
    try:
        for kind, flag in KINDS.items():
            fds.append((os.open(f"/proc/self/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC), flag))
        try:
            yield
        finally:
            for fd, flag in fds:
                kernel.setns(fd, flag)
    finally:
        for fd, _ in fds:
            os.close(fd)
