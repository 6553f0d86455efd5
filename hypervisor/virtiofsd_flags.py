"""The arguments of virtiofsd in its two flavours, as a pure function.

QEMU shipped one written in C until 7.2 (`-o source=...,-o cache=...`, virtiofsd(1)); its successor in Rust has long
options (`--shared-dir`, README of gitlab.com/virtio-fs/virtiofsd). Extra arguments come from configurations that were
written for either, so the options that both have are translated, and never given twice: the Rust one refuses that.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from hypervisor.arguments import absolute, plain
from hypervisor.errors import HypervisorError

Flavour = Literal["c", "rust"]

#: What this room sets itself; an extra argument must not.
_OURS = {"fd", "socket-path", "shared-dir", "source", "daemonize", "syslog"}
#: Options known to both flavours that take a value, and those that don't.
_VALUED = {"cache", "sandbox", "thread-pool-size", "log-level"}
_SWITCHES = {"announce-submounts", "xattr"}
#: What the C flavour has as plain long options; the others are `-o`.
_C_LONG = {"thread-pool-size"}
_CACHES = {"c": {"auto": "auto", "always": "always", "never": "none", "none": "none"}}
_CACHES["rust"] = {"auto": "auto", "always": "always", "never": "never", "none": "never", "metadata": "metadata"}


@dataclass(frozen=True)
class VirtiofsdSpec:
    """All a virtiofsd is. Paths absolute; `extra_args` win over the fields of the same meaning."""

    binary: Path
    #: What the guest sees. Mounts made under it later are seen too if it is a shared mount of our namespace.
    shared_dir: Path
    socket_path: Path
    cache: str = "auto"
    #: Worker threads for requests; 0 handles them on the queue's own thread, which is fastest for one vCPU.
    thread_pool_size: int = 0
    #: `namespace`, `chroot`, or (Rust only) `none`.
    sandbox: str = "namespace"
    #: Give each mount under the shared directory its own device number in the guest.
    announce_submounts: bool = True
    xattr: bool = False
    extra_args: tuple[str, ...] = ()
    debug: bool = False


def arguments(spec: VirtiofsdSpec, flavour: Flavour, listener_fd: int) -> list[str]:
    """The arguments behind the binary's name. Raises HypervisorError for what this flavour can't do."""
    options, rest = _merged(spec)
    options["cache"] = _cache(options["cache"] or "", flavour)
    shared = absolute(spec.shared_dir, "shared directory")
    if flavour == "rust":
        head = [f"--fd={listener_fd}", f"--shared-dir={shared}"]
        return [*head, *(_long(key, value) for key, value in options.items()), *rest]
    arguments = [f"--fd={listener_fd}", "-o", f"source={_escaped(shared)}"]
    for key, value in options.items():
        arguments += [_long(key, value)] if key in _C_LONG else ["-o", _long(key.replace("-", "_"), value)[2:]]
    return [*arguments, *rest]


def _merged(spec: VirtiofsdSpec) -> tuple[dict[str, str | None], list[str]]:
    """The options that both flavours have, and the extra arguments that are for one of them only."""
    options: dict[str, str | None] = {
        "cache": spec.cache,
        "sandbox": spec.sandbox,
        "thread-pool-size": str(spec.thread_pool_size),
    }
    options.update({key: None for key in ("announce-submounts", "xattr") if getattr(spec, key.replace("-", "_"))})
    if spec.debug:
        options["log-level"] = "debug"
    rest: list[str] = []
    for name, value, raw in _parsed(spec.extra_args):
        if name in _OURS:
            raise HypervisorError(f"virtio_fs_extra_args: {raw[-1]!r} is set by the runtime")
        if (name in _VALUED and value is not None) or (name in _SWITCHES and value is None):
            options[name] = value
        else:
            rest += raw
    return options, rest


def _parsed(extra: Sequence[str]) -> Iterator[tuple[str, str | None, list[str]]]:
    """Name, value and original arguments of each extra option, however it was written."""
    pending = [plain(argument, "virtiofsd argument") for argument in extra]
    while pending:
        argument = pending.pop(0)
        if argument.startswith("-o") and argument != "-o":
            argument, pending = "-o", [argument[2:], *pending]
        if argument == "-o" and pending:
            for part in pending.pop(0).split(","):
                name, _, value = part.partition("=")
                yield name.replace("_", "-"), value or None, ["-o", part]
            continue
        name, _, value = argument.removeprefix("--").partition("=")
        raw = [argument]
        if name in _VALUED and not value and pending:
            value = pending.pop(0)
            raw.append(value)
        yield name, value or None, raw


def _cache(mode: str, flavour: Flavour) -> str:
    try:
        return _CACHES[flavour][mode]
    except KeyError:
        known = ", ".join(sorted(_CACHES[flavour]))
        raise HypervisorError(f"virtio_fs_cache {mode!r} is not known to this virtiofsd: use one of {known}") from None


def _long(key: str, value: str | None) -> str:
    return f"--{key}" if value is None else f"--{key}={value}"


def _escaped(value: str) -> str:
    """`value` inside an `-o` list, where a backslash takes the next character's meaning away."""
    return value.replace("\\", "\\\\").replace(",", "\\,")
