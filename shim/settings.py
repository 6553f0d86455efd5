"""What the daemon is told by `start`: flags, and a few names in its environment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sandbox.interface import SandboxIdentity
from shim.cli import Invocation
from shim.errors import ShimError
from shim.lifetime import IDLE_TIMEOUT
from shim.sockets import from_address

#: Overrides `IDLE_TIMEOUT`, in seconds; for tests.
IDLE_VARIABLE = "KATA_SHIM_IDLE_TIMEOUT"


@dataclass(frozen=True)
class Settings:
    """The daemon's settings; `ttrpc_address` and `publish_binary` are the ways to send events, or empty."""

    identity: SandboxIdentity
    ttrpc_address: str
    publish_binary: str
    debug: bool
    idle_timeout: float


def read(invocation: Invocation, environment: Mapping[str, str]) -> Settings:
    """Settings from the daemon's flags and environment; raises `ShimError`."""
    if not invocation.socket or not invocation.id or not invocation.namespace:
        raise ShimError("the daemon is started by the action start (no -id, -namespace or -socket given)")
    identity = SandboxIdentity(
        sandbox_id=invocation.id,
        namespace=invocation.namespace,
        containerd_address=invocation.address,
        socket_path=Path(from_address(invocation.socket)),
        config_path=Path(invocation.config) if invocation.config else None,
    )
    return Settings(
        identity=identity,
        ttrpc_address=environment.get("TTRPC_ADDRESS", ""),
        publish_binary=invocation.publish_binary,
        debug=invocation.debug,
        idle_timeout=_seconds(environment.get(IDLE_VARIABLE, "")),
    )


def _seconds(text: str) -> float:
    try:
        seconds = float(text) if text else IDLE_TIMEOUT
    except ValueError as error:
        raise ShimError(f"{IDLE_VARIABLE}={text!r} is not a number of seconds") from error
    if not seconds > 0:
        raise ShimError(f"{IDLE_VARIABLE}={text!r} is not positive")
    return seconds
