"""OCI hooks that run on the host, around the containers' lives (runtime-spec `config.md`, "POSIX-platform Hooks").

| hooks                               | when                                       | where                 | a failure |
|-------------------------------------|--------------------------------------------|-----------------------|-----------|
| `prestart`, `createRuntime`         | in `Create`, before the pod's VM is up     | the pod's network     | fails it  |
| `createContainer`, `startContainer` | in the guest, with whose spec they go      | the container         | fails it  |
| `poststart`                         | in `Start`, once the program runs          | the pod's network     | is logged |
| `poststop`                          | when the container is gone from the guest  | the shim's namespaces | is logged |

So a `prestart` hook may still make the pod's interfaces, as with Kata. The namespaces that are not named are the
shim's; its mount namespace gets the host's mounts, and gives none back. Each hook gets the container's state as JSON on
standard input, its own environment and nothing else, and has a deadline: its `timeout`, or `TIMEOUT`. Whatever it
started is killed with it.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anyio

from hypervisor.errors import HypervisorError
from hypervisor.process import ENVIRONMENT, ChildProcess, check_executable, find_program, spawn
from sandbox import poststop
from sandbox.container import Container
from sandbox.errors import DeadlineError, SandboxError
from sandbox.oci import Hook, Spec

#: Seconds for a hook that sets no timeout.
TIMEOUT = 30
#: How much of what a hook wrote an error quotes, in characters: the end.
_QUOTED = 1000
#: How long the kernel may take to end a killed hook, in seconds.
_KILL_TIMEOUT = 2.0
#: Executes a program under another name than its own: a hook's first argument is its `argv[0]`. Python makes itself an
#: LC_CTYPE (PEP 538), which is none of the hook's unless it has one.
_RENAME = """
import os, sys
_, locale, path, *args = sys.argv
locale or os.environ.pop("LC_CTYPE", None)
os.execve(path, args, os.environ)
"""

_log = logging.getLogger(__name__)


class ContainerHooks:
    """The hooks of one container. `pid` in the states is that of the VM, or of the shim while there is none."""

    def __init__(self, container: Container, run_dir: Path) -> None:
        self._container = container
        self._run_dir = run_dir
        self._hooks = container.spec.hooks

    async def before_create(self, pid: int) -> None:
        """Run `prestart` and `createRuntime`; raises `SandboxError` for the first that fails.

        From here on the container's release runs its `poststop` hooks, whether it comes to be or not; if the daemon is
        killed before, `delete` does.
        """
        hooks = self._hooks
        if hooks is None:
            return
        if hooks.poststop:
            self._note(hooks.poststop)
            self._container.held.push_async_callback(self._after_stop)
        namespace = network_namespace(self._container.spec)
        for kind, group in (("prestart", hooks.prestart), ("createRuntime", hooks.create_runtime)):
            for hook in group:
                await self._run(kind, hook, "creating", pid, namespace)

    async def after_start(self, pid: int) -> None:
        """Run `poststart`."""
        if self._hooks is not None and self._hooks.poststart:
            await self._try("poststart", self._hooks.poststart, "running", pid, network_namespace(self._container.spec))

    async def _after_stop(self) -> None:
        if self._hooks is not None:
            poststop.forget(self._run_dir, self._container.id)
            await self._try("poststop", self._hooks.poststop, "stopped", 0, "")

    def _note(self, hooks: Sequence[Hook]) -> None:
        container = self._container
        document = {
            "bundle": str(container.bundle),
            "state": state(container.spec, container.id, container.bundle, "stopped", 0),
            "hooks": [{"command": command(hook, ""), "environment": environment(hook)} for hook in hooks],
        }
        try:
            poststop.note(self._run_dir, container.id, document)
        except OSError as error:
            raise SandboxError(f"poststop hooks of container {container.id}: {error}") from error

    async def _try(self, kind: str, hooks: Sequence[Hook], status: str, pid: int, namespace: str) -> None:
        for hook in hooks:
            try:
                await self._run(kind, hook, status, pid, namespace)
            except SandboxError as error:
                _log.warning("%s", error)

    async def _run(self, kind: str, hook: Hook, status: str, pid: int, namespace: str) -> None:
        container = self._container
        what = f"{kind} hook {hook.path} of container {container.id}"
        document = state(container.spec, container.id, container.bundle, status, pid)
        await run_hook(hook, what, document, container.bundle, namespace)


def network_namespace(spec: Spec) -> str:
    """Path of the network namespace that the pod is in; empty if it was given none."""
    return next((item.path for item in spec.linux.namespaces if item.type == "network"), "")


def state(spec: Spec, container_id: str, bundle: Path, status: str, pid: int) -> dict[str, Any]:
    """A container's state as the runtime-spec writes it; a stopped one has no pid."""
    document: dict[str, Any] = {
        "ociVersion": spec.oci_version,
        "id": container_id,
        "status": status,
        "bundle": str(bundle),
        "annotations": dict(spec.annotations),
    }
    return document | {"pid": pid} if pid else document


async def run_hook(hook: Hook, what: str, document: dict[str, Any], directory: Path, namespace: str = "") -> None:
    """Run one hook to its end, in the network namespace at path `namespace` if there is one.

    Raises `SandboxError` with its exit and the last it wrote, `DeadlineError` when it does not end in time.
    """
    try:
        child = _start(hook, document, directory, namespace)
    except (HypervisorError, OSError) as error:
        raise SandboxError(f"{what}: {error}") from error
    limit = hook.timeout or TIMEOUT
    try:
        with anyio.move_on_after(limit):
            await child.wait()
    finally:
        ended = child.returncode is not None
        await _end(child)
    if not ended:
        raise DeadlineError(f"{what} did not end within {limit} s, and was killed{_said(child)}")
    if child.returncode:
        raise SandboxError(f"{what} {_reason(child.returncode)}{_said(child)}")


def _start(hook: Hook, document: dict[str, Any], directory: Path, namespace: str) -> ChildProcess:
    check_executable(Path(hook.path))
    # A file and not a pipe: nobody has to feed it, and a hook that never reads holds up nothing.
    stdin = os.memfd_create("state")
    try:
        with open(stdin, "wb", closefd=False) as file:
            file.write(json.dumps(document).encode())
        os.lseek(stdin, 0, os.SEEK_SET)
        return spawn(command(hook, namespace), cwd=directory, stdin=stdin, environment=environment(hook))
    finally:
        os.close(stdin)


def command(hook: Hook, namespace: str) -> list[str]:
    """The command line that runs a hook in a network namespace."""
    entered = [find_program("nsenter"), f"--net={namespace}", "--"] if namespace else []
    if not hook.args or hook.args[0] == hook.path:
        return [*entered, hook.path, *hook.args[1:]]
    return [*entered, sys.executable, "-I", "-S", "-c", _RENAME, _locale(hook), hook.path, *hook.args]


def environment(hook: Hook) -> dict[str, str]:
    """A hook's own environment; one without any gets a PATH."""
    pairs = (item.partition("=") for item in hook.env)
    return {name: value for name, _, value in pairs} if hook.env else dict(ENVIRONMENT)


def _locale(hook: Hook) -> str:
    return environment(hook).get("LC_CTYPE", "")


async def _end(child: ChildProcess) -> None:
    child.kill()
    with anyio.CancelScope(shield=True), anyio.move_on_after(_KILL_TIMEOUT):
        await child.wait()


def _reason(returncode: int) -> str:
    return f"was killed by signal {-returncode}" if returncode < 0 else f"failed with exit status {returncode}"


def _said(child: ChildProcess) -> str:
    said = child.stderr_tail.strip()
    return f": {said[-_QUOTED:]}" if said else ""
