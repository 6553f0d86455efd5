"""The handshake of `start`: what containerd says on standard input, in three dialects, and what it wants to hear.

| dialect | containerd | standard input | answer |
|---|---|---|---|
| `EMPTY`  | 1.6 to 2.2, no options | nothing                          | the plain address |
| `ANY`    | 1.6 to 2.2             | `google.protobuf.Any` of options | the plain address |
| `PARAMS` | 2.3 and later          | `BootstrapParams`                | `BootstrapResult` |

The plain address means "Task version 2 over ttrpc" to all of them. The bytes of the last two are told apart as
containerd's own `pkg/shim` does: an `Any` decodes as `BootstrapParams` too, so those count only if they name the id
and namespace of the command line.
"""

from __future__ import annotations

from shim.errors import ShimError
from shim.options import config_path
from shim.version import TASK_VERSION

#: Most bytes of standard input that are read.
MAX_INPUT = 10 << 20

EMPTY = "empty"
ANY = "any"
PARAMS = "params"


class Bootstrap:
    """What `start` was told beside its flags; what it was not told is empty."""

    __slots__ = ("config_path", "debug", "dialect", "socket_dir", "ttrpc_address")

    def __init__(
        self,
        dialect: str,
        config_path: str = "",
        socket_dir: str = "",
        ttrpc_address: str = "",
        debug: bool = False,
    ) -> None:
        self.dialect = dialect
        self.config_path = config_path
        self.socket_dir = socket_dir
        self.ttrpc_address = ttrpc_address
        self.debug = debug


def parse(data: bytes, instance_id: str, namespace: str) -> Bootstrap:
    """Understand the standard input of `start`; raises `ShimError` if it is none of the dialects."""
    if not data:
        return Bootstrap(EMPTY)
    return _parse_params(data, instance_id, namespace) or _parse_any(data)


def answer(dialect: str, address: str) -> bytes:
    """The bytes to print for `address`. The last one is never a space: containerd up to 2.3.3 trims those."""
    if dialect != PARAMS:
        return address.encode()
    from protos.lean.gen.containerd_runtime_bootstrap_v1 import BootstrapResult

    return BootstrapResult(version=TASK_VERSION, address=address, protocol="ttrpc").SerializeToString()


def _parse_params(data: bytes, instance_id: str, namespace: str) -> Bootstrap | None:
    from protos.lean.gen.containerd_runtime_bootstrap_v1 import BootstrapParams
    from protos.lean.wire import DecodeError

    try:
        params = BootstrapParams.FromString(data)
    except DecodeError:
        return None
    if params.instance_id != instance_id or params.namespace != namespace:
        return None
    path = ""
    for extension in params.extensions:
        if extension.value is not None and not path:
            path = config_path(extension.value.type_url, extension.value.value)
    return Bootstrap(
        PARAMS,
        config_path=path,
        socket_dir=params.socket_dir or "",
        ttrpc_address=params.containerd_ttrpc_address,
        debug=params.log_level < 0,
    )


def _parse_any(data: bytes) -> Bootstrap:
    from protos.lean.gen.wellknown import Any
    from protos.lean.wire import DecodeError

    try:
        options = Any.FromString(data)
    except DecodeError as error:
        raise ShimError(
            f"standard input holds neither BootstrapParams nor options ({len(data)} bytes): {error}"
        ) from error
    return Bootstrap(ANY, config_path=config_path(options.type_url, options.value))
