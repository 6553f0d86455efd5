"""Random requests to the agent: every message of its protocol, filled with what a hostile or broken host might send.

Values are a mixture of what means something to the agent (ids of containers that exist, its own directories, drivers,
paths that climb) and of plain noise.
"""

from __future__ import annotations

import dataclasses
import sys
import typing
from typing import Any

import betterproto2
from hypothesis import strategies as st

from protos.gen import grpc as pb
from protos.lean.gen import grpc as lean

#: How deep messages are filled; below that they are empty.
DEPTH = 4

_IDS = ("", "c1", "c2", "e1", "e2", "../x", "..", "-x", "c1/../c2", "a" * 200, "\0", "C:\\x", "ünï", "c1\n")
_PATHS = (
    "/",
    "//",
    "/etc/passwd",
    "/proc/self/mem",
    "/dev/null",
    "relative/path",
    "/mnt/guest/run/shared/containers/x",
    "/mnt/guest/run/shared/containers/../../../../outside/file",
    "/mnt/guest/run/shared/containers/link/file",
    "/mnt/guest/run/sandbox/shm",
    "/mnt/guest/state/bundles/c1",
    "/mnt/guest/state",
    "/mnt/outside",
    "/" + "x" * 5000,
    "/mnt/guest/run/shared/containers/\n\x1b[2J",
)
_WORDS = (
    *("virtio-fs", "ephemeral", "local", "bind", "blk", "mmioblk", "blk-ccw", "scsi", "nvdimm", "overlayfs", "9p"),
    *("watchable-bind", "erofs.multi-layer", "image_guest_pull", "vfio-pci", "vfio-pci-gk", "tmpfs", "ext4", "none"),
    *(
        "size=1m",
        "ro",
        "rw",
        "mode=0777",
        "fsgid=1",
        "upperdir=/etc",
        "02/03",
        "1f/1f/1f",
        "0000:00:1f.0",
        "0:0",
        "0.0.0001",
    ),
    *("eth0", "lo", "02:00:00:00:00:01", "10.0.0.1/8", "fe80::1", "net.ipv4.ip_forward", "kernel.panic", "../../x"),
    *("pid", "network", "mount", "CAP_SYS_ADMIN", "RLIMIT_NOFILE", "SCMP_ACT_ALLOW", "termination-log", "agent-log"),
)
#: What a process may be asked to run: this is executed.
_COMMANDS = (["true"], ["sh", "-c", "exit 3"], ["cat"], ["sleep", "1000"], ["nosuch"], ["/etc/passwd"], ["/"], [""], [])

_INTEGERS = (0, 1, 2, 9, 15, 64, 65, 1024, 1025, 4096, 0o644, 0o40755, 0o120777, 0o100600, 1 << 20, (1 << 31) - 1)
_RANGES = {
    "int32": (-(1 << 31), (1 << 31) - 1),
    "int64": (-(1 << 63), (1 << 63) - 1),
    "uint32": (0, (1 << 32) - 1),
    "uint64": (0, (1 << 64) - 1),
}

_text = st.one_of(st.sampled_from(_IDS), st.sampled_from(_PATHS), st.sampled_from(_WORDS), st.text(max_size=20))
_bytes = st.one_of(st.binary(max_size=50), st.just(bytes(100_000)))


def _integer(kind: str) -> st.SearchStrategy[int]:
    low, high = _RANGES.get(kind, _RANGES["int32"])
    return st.one_of(st.sampled_from(_INTEGERS), st.sampled_from((low, high)), st.integers(low, high))


def _scalar(kind: str, hint: Any) -> st.SearchStrategy[Any]:
    if kind == "string":
        return _text
    if kind == "bytes":
        return _bytes
    if kind == "bool":
        return st.booleans()
    if kind == "enum":
        return st.sampled_from(list(hint))
    if kind in {"double", "float"}:
        return st.floats(allow_nan=False)
    return _integer(kind)


def _hint(annotation: Any) -> Any:
    """The class within `list[...]`, `dict[..., ...]` or `... | None`."""
    while arguments := typing.get_args(annotation):
        annotation = next(item for item in reversed(arguments) if item is not type(None))
    return annotation


def messages(message: type[Any], depth: int = DEPTH) -> st.SearchStrategy[Any]:
    """Messages of a class of `protos.gen`."""
    hints = typing.get_type_hints(message, vars(sys.modules[message.__module__]))
    fields: dict[str, st.SearchStrategy[Any]] = {}
    for field in dataclasses.fields(message):
        meta = field.metadata["betterproto"]
        fields[field.name] = _field(message, field.name, meta, _hint(hints[field.name]), depth)
    return st.fixed_dictionaries({}, optional={k: v for k, v in fields.items() if v is not None}).map(
        lambda values: message(**values)
    )


def _field(owner: type[Any], name: str, meta: Any, hint: Any, depth: int) -> Any:
    if owner is pb.Process and name == "args":
        return st.sampled_from(_COMMANDS)
    if meta.map_meta:
        kind = meta.map_meta[1].proto_type
        values = messages(hint, depth - 1) if kind == "message" and depth else _scalar(kind, hint)
        return st.dictionaries(_text, values, max_size=3)
    if isinstance(hint, type) and issubclass(hint, betterproto2.Message):
        if not depth:
            return None
        value = messages(hint, depth - 1)
    else:
        value = _scalar(meta.proto_type, hint)
    return st.lists(value, max_size=3) if meta.repeated else value


def calls(methods: tuple[Any, ...]) -> st.SearchStrategy[tuple[str, bytes, type[Any]]]:
    """Calls: the service's method, the request's bytes, and its class; `methods` are those of a generated base."""
    from protos.codec import encode

    def of(method: Any) -> st.SearchStrategy[tuple[str, bytes, type[Any]]]:
        _, name, request, _ = method
        rich = getattr(pb, request.__name__)
        return messages(rich).map(lambda message: (name, encode(message), request))

    return st.one_of([of(method) for method in methods if method[2].__module__ == lean.__name__])
