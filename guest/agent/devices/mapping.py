"""Devices into a container's config.json: numbers, paths, and what the device cgroup lets through. Pure.

The spec comes with the host's device numbers, which mean other devices in the guest. A device that the host names in
the request gets the guest's numbers, in `linux.devices` and in the rules of `linux.resources.devices`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from guest.agent.devices.blocks import Number
from guest.agent.errors import InvalidArgumentError
from guest.agent.log import log

Json = dict[str, Any]

_FILE_MODE = 0o660


class DeviceUpdate:
    """A guest device for the container's device at `container_path`; `final_path` is where it is to be instead."""

    __slots__ = ("container_path", "final_path", "major", "minor", "type")

    def __init__(self, container_path: str, type: str, major: int, minor: int, final_path: str = "") -> None:  # noqa: A002 - the spec's word
        self.container_path = container_path
        self.type = type
        self.major = major
        self.minor = minor
        self.final_path = final_path or container_path


def apply(config: Json, updates: Iterable[DeviceUpdate]) -> None:
    """Give the spec's devices their guest numbers, and make those that it lacks.

    A rule for the host's number of a device becomes one for its guest number; a device that no rule was about may be
    read, written and made. Raises `InvalidArgumentError` if two updates contradict each other.
    """
    entries: list[Json] = config["linux"]["devices"]
    rules: list[Json] = config["linux"]["resources"].setdefault("devices", [])
    by_path = {entry["path"]: entry for entry in entries}
    renumbered: dict[tuple[str, int, int], DeviceUpdate] = {}
    updated: dict[str, DeviceUpdate] = {}
    for update in updates:
        if update.container_path in updated:
            raise InvalidArgumentError(f"device {update.container_path} is given twice")
        updated[update.container_path] = update
        entry = by_path.get(update.container_path)
        if entry is None:
            entry = {"path": update.container_path, "fileMode": _FILE_MODE, "uid": 0, "gid": 0}
            entries.append(entry)
        else:
            _renumber(renumbered, entry, update)
        entry.update(
            path=update.final_path,
            type=update.type,
            major=update.major,
            minor=update.minor,
        )
    ruled = _translate(rules, renumbered)
    rules += [_rule(True, update) for update in updated.values() if update not in ruled]


def _renumber(table: dict[tuple[str, int, int], DeviceUpdate], entry: Json, update: DeviceUpdate) -> None:
    host = (entry["type"], entry["major"], entry["minor"])
    known = table.setdefault(host, update)
    if (known.type, known.major, known.minor) != (update.type, update.major, update.minor):
        raise InvalidArgumentError(f"host device {host[1]}:{host[2]} is two devices of the guest")


def _translate(rules: list[Json], renumbered: dict[tuple[str, int, int], DeviceUpdate]) -> set[DeviceUpdate]:
    """Rewrite the rules; returns the updates that some rule is about."""
    ruled: set[DeviceUpdate] = set()
    for rule in rules:
        update = renumbered.get((rule.get("type", ""), rule.get("major", -1), rule.get("minor", -1)))
        if update is not None:
            rule.update(type=update.type, major=update.major, minor=update.minor)
            ruled.add(update)
    return ruled


def guard(config: Json, root: frozenset[Number]) -> None:
    """Keep the guest's root disk from the container, and every device from one whose spec has no rules at all.

    Kata's Go runtime sends no rules: then the container gets the devices of its spec and those of every container
    (OCI runtime-spec, "Default Devices").
    """
    entries: list[Json] = config["linux"]["devices"]
    resources: Json = config["linux"]["resources"]
    for entry in [entry for entry in entries if is_of_root(entry, root)]:
        log.warning("device %s is the guest's root disk and is left out", entry["path"])
        entries.remove(entry)
    rules = resources.get("devices") or [
        {"allow": False, "type": "a", "access": "rwm"},
        *({"allow": True, "access": "rwm", **_numbers(entry)} for entry in entries if entry["type"] != "p"),
    ]
    resources["devices"] = rules + denials(root)


def denials(root: frozenset[Number]) -> list[Json]:
    """Rules, to stand last, that keep the root disk from a container."""
    return [
        {"allow": False, "type": "b", "major": major, "minor": minor, "access": "rwm"} for major, minor in sorted(root)
    ]


def is_of_root(entry: Json, root: frozenset[Number]) -> bool:
    """Whether a device of a spec is the root disk."""
    return entry["type"] == "b" and (entry["major"], entry["minor"]) in root


def _numbers(entry: Json) -> Json:
    return {"type": "c" if entry["type"] == "u" else entry["type"], "major": entry["major"], "minor": entry["minor"]}


def _rule(allow: bool, update: DeviceUpdate) -> Json:
    return {"allow": allow, "type": update.type, "major": update.major, "minor": update.minor, "access": "rwm"}
