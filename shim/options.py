"""The runtime options that containerd carries from its configuration to the shim, as an `Any`.

`ConfigPath` of the runtime's options table (CRI) and `--runtime-config-path` (ctr) arrive as
`runtimeoptions.v1.Options`; without it containerd 1.7 and later send the table itself, as TOML (`config_body`).
Other types belong to other runtimes, and containerd sends them to any (containerd.runc.v1.Options): they are ignored.
"""

from __future__ import annotations

from shim.errors import ShimError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from protos.lean.gen.runtimeoptions_v1 import Options

_OPTION_TYPES = frozenset({"runtimeoptions.v1.Options", "cri.runtimeoptions.v1.Options"})


def config_path(type_url: str, value: bytes) -> str:
    """The configuration file that the options name; empty if they name none or are another runtime's.

    Raises `ShimError` if they can't be decoded, or name a path that is not absolute.
    """
    options = _decoded(type_url, value)
    path = options.config_path if options is not None else ""
    if path and not path.startswith("/"):
        raise ShimError(f"runtime options: ConfigPath {path!r} is not an absolute path")
    return path


def config_body(type_url: str, value: bytes) -> str:
    """The table of options itself, as TOML; empty if a file is named, or if they are another runtime's.

    Raises `ShimError` if they can't be decoded, or are no text.
    """
    options = _decoded(type_url, value)
    if options is None or options.config_path:
        return ""
    try:
        return bytes(options.config_body).decode()
    except UnicodeDecodeError as error:
        raise ShimError(f"runtime options: the table is not UTF-8 text (byte {error.start})") from error


def _decoded(type_url: str, value: bytes) -> Options | None:
    if type_url.rpartition("/")[2] not in _OPTION_TYPES:
        return None
    from protos.lean.gen.runtimeoptions_v1 import Options
    from protos.lean.wire import DecodeError

    try:
        return Options.FromString(value)
    except DecodeError as error:
        raise ShimError(f"runtime options {type_url}: {error}") from error
