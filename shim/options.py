"""The runtime options that containerd carries from its configuration to the shim, as an `Any`.

`ConfigPath` of the runtime's options table (CRI) and `--runtime-config-path` (ctr) arrive as
`runtimeoptions.v1.Options`. Other types belong to other runtimes, and containerd sends them to any
(containerd.runc.v1.Options): they are ignored.
"""

from __future__ import annotations

from shim.errors import ShimError

_OPTION_TYPES = frozenset({"runtimeoptions.v1.Options", "cri.runtimeoptions.v1.Options"})


def config_path(type_url: str, value: bytes) -> str:
    """The configuration file that the options name; empty if they name none or are another runtime's.

    Raises `ShimError` if they can't be decoded, or name a path that is not absolute.
    """
    if type_url.rpartition("/")[2] not in _OPTION_TYPES:
        return ""
    from protos.lean.gen.runtimeoptions_v1 import Options
    from protos.lean.wire import DecodeError

    try:
        path = Options.FromString(value).config_path
    except DecodeError as error:
        raise ShimError(f"runtime options {type_url}: {error}") from error
    if path and not path.startswith("/"):
        raise ShimError(f"runtime options: ConfigPath {path!r} is not an absolute path")
    return path
