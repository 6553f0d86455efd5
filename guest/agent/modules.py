"""Kernel modules that the host asks for, by modprobe."""

from __future__ import annotations

import os
from collections.abc import Sequence

from guest.agent import spawn
from guest.agent.errors import InternalError, InvalidArgumentError
from guest.agent.names import module_name
from guest.agent.reaper import Reaper

MODPROBE_PATHS = ("/usr/sbin/modprobe", "/sbin/modprobe", "/usr/bin/busybox")
LOAD_TIMEOUT = 30.0


async def load(name: str, parameters: Sequence[str], reaper: Reaper) -> None:
    """Load a module with its parameters (`name=value`); `InternalError` if the kernel or modprobe refuses."""
    module_name(name)
    for parameter in parameters:
        if parameter.startswith("-") or not parameter.isprintable() or len(parameter) > 1024:
            raise InvalidArgumentError(f"parameter {parameter[:100]!r} of module {name} is malformed")
    status = await spawn.run([*_modprobe(), name, *parameters], reaper, LOAD_TIMEOUT)
    if status:
        raise InternalError(f"modprobe {name} ended with status {status}")


def _modprobe() -> list[str]:
    for path in MODPROBE_PATHS:
        if os.path.exists(path):
            return [path, "modprobe"] if path.endswith("busybox") else [path, "-q", "--"]
    raise InternalError("the guest has no modprobe")
