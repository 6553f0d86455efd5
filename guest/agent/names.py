"""Identifiers and paths from the host, checked before anything is done with them.

An id becomes a directory name, a cgroup and an argument of crun. A path is followed by a privileged process. Neither is
believed: what is not plainly right is refused with `InvalidArgumentError`.
"""

from __future__ import annotations

import re

from guest.agent.errors import InvalidArgumentError

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")
_MODULE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_HOSTNAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
PATH_LIMIT = 4095


def container_id(value: str) -> str:
    """A container id as the host may give it."""
    return _matching(_ID, value, "container id")


def exec_id(value: str) -> str:
    """A process id (containerd's exec id, or a UUID of Kata's); empty stands for the init process and is legal."""
    return _matching(_ID, value, "exec id") if value else value


def module_name(value: str) -> str:
    """A kernel module's name: never a path or an option of modprobe."""
    return _matching(_MODULE, value, "kernel module name")


def hostname(value: str) -> str:
    """A host name of at most 64 characters, the kernel's limit."""
    return _matching(_HOSTNAME, value, "hostname")


def absolute_path(value: str, what: str) -> str:
    """`value` without doubled or trailing slashes; refused if relative, if it climbs (`..`), or if it is too long."""
    if not value.startswith("/") or "\0" in value or len(value) > PATH_LIMIT:
        raise InvalidArgumentError(f"{what} {value[:200]!r} is not an absolute path")
    parts = [part for part in value.split("/") if part and part != "."]
    if ".." in parts:
        raise InvalidArgumentError(f"{what} {value[:200]!r} climbs out of its directory")
    return "/" + "/".join(parts)


def is_beneath(path: str, root: str) -> bool:
    """Whether the normal path `path` lies strictly below `root`."""
    return path.startswith(root.rstrip("/") + "/")


def path_beneath(value: str, root: str, what: str) -> str:
    """Like `absolute_path`, and refused unless it lies strictly below `root`."""
    path = absolute_path(value, what)
    if not is_beneath(path, root):
        raise InvalidArgumentError(f"{what} {path[:200]!r} is outside of {root}")
    return path


def _matching(pattern: re.Pattern[str], value: str, what: str) -> str:
    if not pattern.fullmatch(value):
        raise InvalidArgumentError(f"{what} {value[:200]!r} is malformed")
    return value
