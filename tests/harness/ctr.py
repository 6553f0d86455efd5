"""containerd's own command line client, as the tests use it: arguments in, a `Result` out."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.harness.command import Result, run
from tests.harness.containerd_version import program
from tests.harness.images import BUSYBOX
from tests.harness.runtimes import KATA, Runtime


class Ctr:
    """`ctr` for one containerd and one namespace. A call past its deadline (seconds) raises `CommandError`."""

    def __init__(
        self, socket: Path, runtime: Runtime = KATA, namespace: str = "default", configuration: Path | None = None
    ) -> None:
        self._socket = socket
        self._namespace = namespace
        self._runtime_options = ["--runtime", runtime.type]
        if configuration:
            self._runtime_options += ["--runtime-config-path", str(configuration)]

    def __call__(self, *arguments: str | Path, timeout: float = 60.0, stdin: bytes = b"") -> Result:
        """Any ctr command; its exit status is in the result."""
        return run(*self.command(*arguments), timeout=timeout, stdin=stdin)

    def command(self, *arguments: str | Path) -> list[str]:
        """The whole command line of a ctr command, to be run by other means."""
        return [program("ctr"), "-a", str(self._socket), "-n", self._namespace, *map(str, arguments)]

    @contextmanager
    def background(self, *arguments: str | Path) -> Iterator[subprocess.Popen[bytes]]:
        """Any ctr command, running beside the body with its output in pipes; killed at the end if it still does."""
        with subprocess.Popen(
            self.command(*arguments), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as process:
            try:
                yield process
            finally:
                process.kill()

    def run(
        self,
        container: str,
        *command: str,
        options: Iterable[str] = ("--rm",),
        image: str = BUSYBOX,
        timeout: float = 120.0,
        stdin: bytes = b"",
    ) -> Result:
        """`ctr run` of a container from `image`; in the foreground unless `options` has `--detach`."""
        words = self.run_arguments(container, *command, options=options, image=image)
        return self(*words, timeout=timeout, stdin=stdin)

    def run_arguments(
        self, container: str, *command: str, options: Iterable[str] = (), image: str = BUSYBOX
    ) -> list[str]:
        """What `ctr` is told to run a container under this one's runtime."""
        return ["run", *options, *self._runtime_options, image, container, *command]

    def run_spec(
        self,
        container: str,
        spec: Path,
        options: Iterable[str] = ("--rm",),
        timeout: float = 120.0,
        stdin: bytes = b"",
    ) -> Result:
        """`ctr run` of a container that the OCI spec in the file `spec` describes; its root is a directory."""
        words = ("run", *options, *self._runtime_options, "--config", str(spec), container)
        return self(*words, timeout=timeout, stdin=stdin)

    def run_detached(self, container: str, *command: str, options: Iterable[str] = (), timeout: float = 120.0) -> None:
        """Start a container and leave it running; raises `CommandError` if it does not start."""
        self.run(container, *command, options=("--detach", *options), timeout=timeout).check()

    def exec(
        self,
        container: str,
        *command: str,
        exec_id: str = "exec-1",
        options: Iterable[str] = (),
        timeout: float = 60.0,
        stdin: bytes = b"",
    ) -> Result:
        """`ctr task exec` in the foreground."""
        words = ("task", "exec", "--exec-id", exec_id, *options, container, *command)
        return self(*words, timeout=timeout, stdin=stdin)

    def kill(
        self, container: str, signal: str = "SIGKILL", options: Iterable[str] = (), timeout: float = 30.0
    ) -> Result:
        """`ctr task kill`."""
        return self("task", "kill", "--signal", signal, *options, container, timeout=timeout)

    def delete(self, container: str, options: Iterable[str] = (), timeout: float = 30.0) -> Result:
        """`ctr task delete`; an exit code of the task that is not 0 is told in a warning, and is not ctr's own."""
        return self("task", "delete", *options, container, timeout=timeout)

    def remove(self, container: str, timeout: float = 60.0) -> None:
        """Kill and delete the task if there is one, then the container and its snapshot; raises `CommandError`."""
        if container in self.tasks(timeout):
            self("task", "delete", "--force", container, timeout=timeout)
        self("container", "delete", container, timeout=timeout).check()

    def tasks(self, timeout: float = 30.0) -> dict[str, str]:
        """Status (RUNNING, STOPPED, ...) by container."""
        rows = self("task", "list", timeout=timeout).check().text.splitlines()[1:]
        return {fields[0]: fields[-1] for fields in (row.split() for row in rows) if fields}

    def containers(self, timeout: float = 30.0) -> list[str]:
        """Ids of all containers of the namespace."""
        return self("container", "list", "-q", timeout=timeout).check().text.split()

    def import_archive(self, archive: Path, timeout: float = 60.0) -> None:
        """Import and unpack the images of an OCI layout archive; raises `CommandError`."""
        self("images", "import", archive, timeout=timeout).check()
