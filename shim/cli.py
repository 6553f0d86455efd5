"""The command line of a shim, in the syntax of Go's `flag` package (containerd runtime v2, "Command Line Interface").

`-name value`, `-name=value` and `--name` are the same; the first argument that is no flag is the action, and what
follows it is ignored.
"""

from __future__ import annotations

from shim.errors import ShimError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_STRINGS = ("namespace", "id", "address", "publish-binary", "bundle", "socket", "debug-socket", "config")
_SWITCHES = ("debug", "v", "version", "info", "h", "help")
_TRUE = frozenset({"1", "t", "T", "true", "TRUE", "True"})
_FALSE = frozenset({"0", "f", "F", "false", "FALSE", "False"})

USAGE = """\
Usage of containerd-shim-kata-v2: [flags] start|delete
  -address string         address of containerd's gRPC socket
  -bundle string          path of the bundle (delete; default: the working directory)
  -debug                  log debug messages
  -h, -help               print this and exit
  -id string              id of the task
  -info                   print a containerd.types.RuntimeInfo and exit
  -namespace string       containerd's namespace of the task
  -publish-binary string  containerd's binary, to publish events where there is no TTRPC_ADDRESS
  -v, -version            print the version and exit
  -config string, -socket string, -debug-socket string
                          set by start for the daemon it leaves behind
"""


class Invocation:
    """What one run of the shim was asked for; a flag that was not given is empty."""

    __slots__ = (
        "action",
        "address",
        "bundle",
        "config",
        "debug",
        "help",
        "id",
        "info",
        "namespace",
        "publish_binary",
        "socket",
        "version",
    )

    def __init__(self, values: dict[str, str], switches: set[str], action: str) -> None:
        self.action = action
        self.namespace = values.get("namespace", "")
        self.id = values.get("id", "")
        self.address = values.get("address", "")
        self.publish_binary = values.get("publish-binary", "")
        self.bundle = values.get("bundle", "")
        self.socket = values.get("socket", "")
        self.config = values.get("config", "")
        self.debug = "debug" in switches
        self.version = bool(switches & {"v", "version"})
        self.info = "info" in switches
        self.help = bool(switches & {"h", "help"})


def parse(arguments: Sequence[str]) -> Invocation:
    """Parse the arguments after the program's name; raises `ShimError` for an unknown flag or a missing value."""
    values: dict[str, str] = {}
    switches: set[str] = set()
    rest = list(arguments)
    while rest and len(rest[0]) > 1 and rest[0][0] == "-":
        argument = rest.pop(0)
        if argument == "--":
            break
        name, given, value = argument[2 if argument.startswith("--") else 1 :].partition("=")
        if name in _SWITCHES:
            (switches.add if not given or _boolean(name, value) else switches.discard)(name)
        elif name in _STRINGS:
            if not given:
                value = _next(rest, name)
            values[name] = value
        else:
            raise ShimError(f"flag provided but not defined: -{name}")
    return Invocation(values, switches, rest[0] if rest else "")


def _next(rest: list[str], name: str) -> str:
    if not rest:
        raise ShimError(f"flag needs an argument: -{name}")
    return rest.pop(0)


def _boolean(name: str, value: str) -> bool:
    if value not in _TRUE and value not in _FALSE:
        raise ShimError(f'invalid boolean value "{value}" for -{name}')
    return value in _TRUE
