"""Guest hooks: programs of the guest's image that run around every container's life (Kata's `guest_hook_path`).

The directory has `prestart`, `poststart` and `poststop`; of each the executable files run, in the order of their names,
in the guest's own namespaces, with the container's state (OCI runtime-spec, "State") as JSON on standard input and the
arguments that Kata gives: the file's name and the directory's. Its bundle holds the `config.json` that crun got.

A prestart hook that fails is the container's failure, with what the hook wrote to standard error. The others' failures
are logged, as the runtime-spec has it: the container has begun, or is gone, anyway.
"""

from __future__ import annotations

import json
import os
import stat
from typing import Any

from guest.agent import capture
from guest.agent.errors import InternalError, RpcError
from guest.agent.log import log
from guest.agent.reaper import Reaper

KINDS = ("prestart", "poststart", "poststop")
#: Seconds for one hook.
TIMEOUT = 30.0
MAX_HOOKS = 64
_STDERR_LIMIT = 1000
_SPEC_VERSION = "1.0.2"


class GuestHooks:
    """The hooks of one directory, as found when the sandbox was created."""

    def __init__(self, directory: str, reaper: Reaper) -> None:
        self._reaper = reaper
        self._hooks = {kind: found(f"{directory}/{kind}") for kind in KINDS}

    async def prestart(self, container_id: str, pid: int, bundle: str, annotations: dict[str, str]) -> None:
        """Before the container's program runs; raises `InternalError` for the first hook that fails."""
        for path in self._hooks["prestart"]:
            await self._run(path, "prestart", state(container_id, "created", pid, bundle, annotations))

    async def poststart(self, container_id: str, pid: int, bundle: str, annotations: dict[str, str]) -> None:
        """After the container's program has begun."""
        await self._try("poststart", state(container_id, "running", pid, bundle, annotations))

    async def poststop(self, container_id: str, bundle: str, annotations: dict[str, str]) -> None:
        """After the container has gone, its bundle not yet."""
        await self._try("poststop", state(container_id, "stopped", 0, bundle, annotations))

    async def _try(self, kind: str, document: dict[str, Any]) -> None:
        for path in self._hooks[kind]:
            try:
                await self._run(path, kind, document)
            except RpcError as error:
                log.warning("container %s: %s", document["id"], error)

    async def _run(self, path: str, kind: str, document: dict[str, Any]) -> None:
        text = json.dumps(document).encode()
        arguments = [path, kind]
        outcome = await capture.run(arguments, self._reaper, TIMEOUT, stdin=text, limit=_STDERR_LIMIT)
        if outcome.status:
            raise InternalError(f"{kind} hook {path}: {outcome.reason()}")


def found(directory: str) -> list[str]:
    """The executable files in a directory, by name; links, other files and a missing directory are passed over."""
    try:
        entries = sorted(os.scandir(directory), key=lambda entry: entry.name)
    except OSError:
        return []
    hooks = [entry.path for entry in entries if _is_executable(entry)]
    if len(hooks) > MAX_HOOKS:
        log.warning("%s: only the first %d of %d hooks run", directory, MAX_HOOKS, len(hooks))
    return hooks[:MAX_HOOKS]


def _is_executable(entry: os.DirEntry[str]) -> bool:
    mode = entry.stat(follow_symlinks=False).st_mode
    return stat.S_ISREG(mode) and bool(mode & 0o111)


def state(container_id: str, status: str, pid: int, bundle: str, annotations: dict[str, str]) -> dict[str, Any]:
    """A container's state as the runtime-spec writes it; a stopped one has no pid."""
    result: dict[str, Any] = {
        "ociVersion": _SPEC_VERSION,
        "id": container_id,
        "status": status,
        "bundle": bundle,
        "annotations": annotations,
    }
    return {**result, "pid": pid} if pid else result
