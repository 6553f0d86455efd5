"""Hooks of the OCI spec that crun runs in the guest (createContainer, startContainer): what they said, and whether they
failed.

crun appends a hook's standard error to the file that the annotation `run.oci.hooks.stderr` names: a FIFO here, which
crun and the waiting init hold open and the container's program does not get (close-on-exec). The startContainer hooks
run when `crun start` has returned already, and a failure is the end of the init. So the end of the FIFO is the end of
the hooks, and an init that keeps its name until its own end has never become the program. Seen with crun 1.8.1.
"""

from __future__ import annotations

import asyncio
import os
from typing import Any

from guest.agent.errors import DeadlineError, InternalError, RpcError, one_line
from guest.agent.reaper import Reaper, name_of

#: Bytes kept of what the hooks wrote: the first.
LIMIT = 1000
#: Seconds for a startContainer hook that sets no timeout.
TIMEOUT = 30.0
#: Seconds between looks at an init that is about to become the program, or to end.
_PAUSE = 0.005
_CHUNK = 1 << 14


class InnerHooks:
    """Those of one container whose config has any. Life: made beside the bundle, `follow`, `finished`, `close`."""

    def __init__(self, bundle: str, config: dict[str, Any]) -> None:
        self._path = f"{bundle}/hooks"
        self._timeout = sum(hook.get("timeout", TIMEOUT) for hook in config["hooks"]["startContainer"])
        self._said = bytearray()
        self._ended = asyncio.Event()
        self._pid = 0
        self._name = ""
        self._reaper: Reaper | None = None
        os.mkfifo(self._path, 0o600)
        self._fd = os.open(self._path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        asyncio.get_running_loop().add_reader(self._fd, self._take)

    def annotate(self, config: dict[str, Any]) -> dict[str, Any]:
        """The config for crun: with the annotation."""
        return config | {"annotations": config["annotations"] | {"run.oci.hooks.stderr": self._path}}

    def follow(self, pid: int, reaper: Reaper) -> None:
        """The container's init is `pid`, and waits to be started."""
        self._pid, self._reaper, self._name = pid, reaper, name_of(pid)
        reaper.last_names[pid] = ""

    def _take(self) -> None:
        try:
            data = os.read(self._fd, _CHUNK)
        except BlockingIOError:
            return
        self._said += data[: LIMIT - len(self._said)]
        if not data:
            asyncio.get_running_loop().remove_reader(self._fd)
            self._ended.set()

    def explain(self, error: RpcError) -> RpcError:
        """`error` of crun, with what the hooks said."""
        if not self._ended.is_set():
            self._take()
        said = one_line(self._said.decode("utf-8", "replace"), LIMIT)
        return InternalError(f"{error}: {said}") if said and isinstance(error, InternalError) else error

    async def finished(self) -> None:
        """Wait until the startContainer hooks are through.

        Raises `InternalError` with what they said if one failed, `DeadlineError` if they don't end in time, for which
        it is enough that something they started holds their standard error open.
        """
        if not self._timeout:
            return
        try:
            async with asyncio.timeout(self._timeout):
                await self._ended.wait()
                while (name := name_of(self._pid)) == self._name:
                    await asyncio.sleep(_PAUSE)
        except TimeoutError as error:
            raise DeadlineError(f"the startContainer hooks did not end within {self._timeout:.0f} s") from error
        if self._reaper is not None and (name or self._reaper.last_names[self._pid]) == self._name:
            raise self.explain(InternalError("a startContainer hook failed"))

    def close(self) -> None:
        """Give the FIFO up; idempotent."""
        if self._reaper is not None:
            self._reaper.last_names.pop(self._pid, None)
        if self._fd >= 0:
            asyncio.get_running_loop().remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1
