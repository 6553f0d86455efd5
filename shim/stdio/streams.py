"""The three streams of a process together: `sandbox.interface.Stdio`, and who opens them.

The kind of standard output decides for both outputs, as in containerd's runc shim: one logger gets both, and a log
file gets both unless standard error names another file.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

import anyio

from sandbox.errors import InvalidArgumentError
from sandbox.interface import Stdio, StdioUris
from shim.stdio import target
from shim.stdio.input import FifoSource
from shim.stdio.logger import Logger
from shim.stdio.output import Discard, FileSink, Sink, open_fifo
from shim.stdio.target import Scheme, Target


class ProcessStdio:
    """The opened streams of one process, from `open` until `aclose`; owns all of them."""

    def __init__(self) -> None:
        self._stdin: FifoSource | None = None
        self._stdout: Sink = Discard()
        self._stderr: Sink = Discard()
        self._closers: list[Callable[[], Coroutine[Any, Any, None]]] = []

    @classmethod
    async def open(cls, container_id: str, namespace: str, uris: StdioUris) -> ProcessStdio:
        """Open what `uris` names; nothing stays open if that fails.

        Raises `SandboxError`s: of `shim.stdio.target.parse`, and of the streams themselves.
        """
        stdio = cls()
        try:
            stdio._open_input(uris.stdin)
            await stdio._open_outputs(container_id, namespace, uris)
        except BaseException:
            with anyio.CancelScope(shield=True):
                await stdio.aclose()
            raise
        return stdio

    def _open_input(self, text: str) -> None:
        place = target.parse(text)
        if place.scheme is Scheme.NONE:
            return
        if place.scheme is not Scheme.FIFO:
            raise InvalidArgumentError(f"stdin {text!r}: only a FIFO can be read from")
        self._stdin = FifoSource(place.path)
        self._closers.append(self._stdin.aclose)

    async def _open_outputs(self, container_id: str, namespace: str, uris: StdioUris) -> None:
        stdout = target.parse(uris.stdout)
        stderr = target.parse("" if uris.terminal else uris.stderr)
        if stdout.is_logger:
            logger = await Logger.start(stdout, container_id, namespace)
            self._closers.append(logger.aclose)
            self._stdout = logger.stdout
            self._stderr = logger.stderr
            return
        self._stdout = self._open_output(stdout)
        shared = stdout.scheme is Scheme.FILE and stderr.scheme in (Scheme.NONE, Scheme.FILE)
        if shared and stderr.path in ("", stdout.path):
            self._stderr = self._stdout
        else:
            self._stderr = self._open_output(stderr)

    def _open_output(self, place: Target) -> Sink:
        if place.scheme is Scheme.NONE:
            return Discard()
        if place.is_logger:
            raise InvalidArgumentError(f"stderr: a logger ({place.path}) must be that of stdout too")
        sink = FileSink(place.path) if place.scheme is Scheme.FILE else open_fifo(place.path)
        self._closers.append(sink.aclose)
        return sink

    @property
    def has_stdin(self) -> bool:
        """See `Stdio`."""
        return self._stdin is not None

    async def read_stdin(self, size: int) -> bytes:
        """See `Stdio`."""
        return await self._stdin.read(size) if self._stdin is not None else b""

    async def write_stdout(self, data: bytes) -> None:
        """See `Stdio`."""
        await self._stdout.write(data)

    async def write_stderr(self, data: bytes) -> None:
        """See `Stdio`."""
        await self._stderr.write(data)

    def close_stdin(self) -> None:
        """See `Stdio`."""
        if self._stdin is not None:
            self._stdin.close()

    async def aclose(self) -> None:
        """See `Stdio`; the streams are closed side by side, so that one slow reader costs its patience once."""
        async with anyio.create_task_group() as group:
            for close in self._closers:
                group.start_soon(close)


class StdioOpener:
    """`sandbox.interface.OpenStdio` for one namespace of containerd, whose name loggers are told."""

    def __init__(self, namespace: str) -> None:
        self._namespace = namespace

    async def __call__(self, container_id: str, uris: StdioUris) -> Stdio:
        """Open the streams of a process."""
        return await ProcessStdio.open(container_id, self._namespace, uris)
