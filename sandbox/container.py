"""One container of a pod: its spec, its init, its execs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path

from protos.gen import grpc as agent_pb
from sandbox.errors import AlreadyExistsError, NotFoundError
from sandbox.interface import ExecRequest, StdioUris
from sandbox.oci import Process as OciProcess
from sandbox.oci import Spec
from sandbox.process import Process


class Exec(Process):
    """A further process, with what it is to run."""

    def __init__(self, request: ExecRequest, guest_exec_id: str, bundle: Path, spec: OciProcess) -> None:
        super().__init__(request.container_id, request.exec_id, guest_exec_id, bundle, request.io)
        self.spec = spec
        #: Terminal size in characters that was asked for before the start: width, height.
        self.size: tuple[int, int] | None = None


class Container:
    """From a successful `Create` to `Delete`."""

    def __init__(self, container_id: str, bundle: Path, spec: Spec, io: StdioUris) -> None:
        self.id = container_id
        self.bundle = bundle
        self.spec = spec
        self.init = Process(container_id, "", "", bundle, io)
        self.execs: dict[str, Exec] = {}
        #: The last statistics, kept when init ends: containerd asks for them to tell an OOM kill.
        self.last_stats: agent_pb.StatsContainerResponse | None = None
        self.oom_published = False
        #: What the host holds for it (shared files, plugged devices, ...): given back once the guest has let go of it.
        self.held = AsyncExitStack()

    def process(self, exec_id: str) -> Process:
        """The init (empty id) or an exec; raises `NotFoundError`."""
        return self.init if not exec_id else self.exec(exec_id)

    def exec(self, exec_id: str) -> Exec:
        """An exec by its id; raises `NotFoundError`."""
        try:
            return self.execs[exec_id]
        except KeyError:
            raise NotFoundError(f"exec {exec_id} of container {self.id}: not found") from None

    def add_exec(self, process: Exec) -> None:
        """Register an exec; raises `AlreadyExistsError`, or `FailedPreconditionError` if init does not run."""
        if process.exec_id in self.execs:
            raise AlreadyExistsError(f"exec {process.exec_id} of container {self.id} already exists")
        self.init.state.check_exec()
        self.execs[process.exec_id] = process

    def processes(self) -> Iterator[Process]:
        """All its processes, execs first: the order in which their ends are told."""
        yield from self.execs.values()
        yield self.init
