"""Where a pod's cgroup is, by the OCI spec's `linux.cgroupsPath`: pure.

Two forms (runc's documentation, "systemd cgroup driver"): a path below the root of the hierarchy, and, where systemd
manages cgroups, `slice:prefix:name`, which means the unit `prefix-name.scope` below the slice and its parents.
"""

from __future__ import annotations

from sandbox.errors import InvalidArgumentError

#: Linux' limits for a path and for one name.
_LONGEST = 4096
_LONGEST_NAME = 255
#: Below it are the pods whose spec names no cgroup.
_DEFAULT_PARENT = "kata"
_OVERHEAD_PARENT = "kata_overhead"
#: Beginnings of the paths below cgroups that are ours alone.
OWN_PARENTS = (f"{_DEFAULT_PARENT}/", f"{_OVERHEAD_PARENT}/")


def cgroup_path(text: str, sandbox_id: str) -> str:
    """The path below the root of a hierarchy, without a slash in front. Raises `InvalidArgumentError`."""
    if not text:
        path = f"{_DEFAULT_PARENT}/{sandbox_id}"
    elif ":" in text and not text.startswith("/"):
        path = _systemd_path(text)
    else:
        path = text.strip("/") if text.startswith("/") else f"{_DEFAULT_PARENT}/{text.strip('/')}"
    parts = path.split("/")
    malformed = any(not part or part in (".", "..") or len(part) > _LONGEST_NAME for part in parts)
    if malformed or len(path) > _LONGEST or not path.isprintable():
        raise InvalidArgumentError(f"linux.cgroupsPath {text[:200]!r} is not the path of a cgroup")
    return path


def overhead_path(sandbox_id: str) -> str:
    """The path of the cgroup for what a pod costs besides its vCPUs, as Kata has it."""
    return f"{_OVERHEAD_PARENT}/{sandbox_id}"


def _systemd_path(text: str) -> str:
    slice_name, prefix, name = ("", "", *text.split(":"))[-3:] if text.count(":") == 2 else ("", "", "")
    if not name or "/" in text:
        raise InvalidArgumentError(f"linux.cgroupsPath {text[:200]!r}: expected slice:prefix:name")
    unit = name if name.endswith(".slice") else f"{prefix}-{name}.scope" if prefix else f"{name}.scope"
    return f"{slice_path(slice_name or 'system.slice')}/{unit}"


def slice_path(name: str) -> str:
    """The path of a systemd slice: `a-b.slice` is in `a.slice`. Raises `InvalidArgumentError`."""
    stem = name.removesuffix(".slice")
    words = stem.split("-")
    if stem == name or "/" in name or (stem and not all(words)):
        if name != "-.slice":
            raise InvalidArgumentError(f"{name[:200]!r} is not the name of a slice")
        return ""
    return "/".join(f"{'-'.join(words[: count + 1])}.slice" for count in range(len(words)))
