"""Saving and restoring a VM's devices through QEMU's migration, without its memory.

With `x-ignore-shared` memory that others may map is left out of the stream: a template's is in its file already. QMP
reference: `migrate-set-capabilities`, `migrate`, `migrate-incoming`, event `MIGRATION`. The stream goes through a
descriptor, so that QEMU neither runs a shell nor needs to be allowed to.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import anyio

from hypervisor.errors import HypervisorError
from hypervisor.hotplug.plug import Hotplug

_EVENT = "MIGRATION"
_DESCRIPTOR = "state"
_CAPABILITIES = {
    "capabilities": [{"capability": name, "state": True} for name in ("x-ignore-shared", "events")],
}


async def save(hotplug: Hotplug, fd: int, timeout: float) -> None:
    """Write the state of a stopped VM to `fd`, a file; raises `HypervisorError`."""
    await _migrate(hotplug, "migrate", fd, timeout)


async def restore(hotplug: Hotplug, fd: int, timeout: float) -> None:
    """Read the state of a VM that was started with `-incoming defer` from `fd`; it is stopped then.

    Raises `HypervisorError`, `VmGoneError` among them: QEMU ends when it can't read the state.
    """
    await _migrate(hotplug, "migrate-incoming", fd, timeout)


async def _migrate(hotplug: Hotplug, command: str, fd: int, timeout: float) -> None:
    try:
        with anyio.fail_after(timeout):
            await hotplug.execute("migrate-set-capabilities", _CAPABILITIES)
            async with hotplug.listening(_EVENT) as events:
                await hotplug.pass_descriptor(_DESCRIPTOR, fd)
                await hotplug.execute(command, {"uri": f"fd:{_DESCRIPTOR}"})
                while not _is_over((await events.get())[1]):
                    pass
            await _check(hotplug, command)
    except TimeoutError as error:
        raise HypervisorError(f"{command} did not end within {timeout:g} s") from error


def _is_over(data: Mapping[str, Any]) -> bool:
    return data.get("status") in ("completed", "failed", "cancelled")


async def _check(hotplug: Hotplug, command: str) -> None:
    answer = await hotplug.execute("query-migrate")
    if answer.get("status") != "completed":
        reason = answer.get("error-desc") or "QEMU does not say why"
        raise HypervisorError(f"{command} {answer.get('status')}: {reason}")
