"""The statistics of a pod: those of its containers, added up. Pure.

Counters and amounts add up; so do limits, up to the number that means none. The network is the guest's, which each of
its containers tells alike: it counts once. Pressure, which is a share of time, does not add up: it is told of a pod
with one container.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Any, TypeVar

from protos.gen import grpc as agent_pb

M = TypeVar("M")
_MOST = 2**64 - 1
_MOST_32 = 2**32 - 1


def total(parts: Sequence[agent_pb.StatsContainerResponse]) -> agent_pb.StatsContainerResponse:
    """One message for all `parts`; what none of them tells is absent from it."""
    cgroups = [part.cgroup_stats for part in parts if part.cgroup_stats is not None]
    return agent_pb.StatsContainerResponse(
        cgroup_stats=_message(cgroups) if cgroups else None,
        network_stats=next((list(part.network_stats) for part in parts if part.network_stats), []),
    )


def _message(parts: Sequence[M]) -> M:
    """The sum, field by field."""
    result = type(parts[0])()
    for field in fields(result):  # type: ignore[arg-type]
        setattr(result, field.name, _value([getattr(part, field.name) for part in parts]))
    return result


def _value(values: Sequence[Any]) -> Any:
    known = [value for value in values if value is not None]
    if not known:
        return None
    first = known[0]
    if isinstance(first, bool):
        return any(known)
    if isinstance(first, int):
        return min(sum(known), _MOST)
    if isinstance(first, dict):
        keys = sorted({key for value in known for key in value})
        return {key: _value([value[key] for value in known if key in value]) for key in keys}
    if isinstance(first, list):
        return _list(known)
    if isinstance(first, agent_pb.Pressure):
        return first if len(values) == 1 else None
    return first if isinstance(first, str) else _message(known)


def _list(lists: Sequence[list[Any]]) -> list[Any]:
    """Numbers add up place by place (one for each CPU), device counters by device and operation."""
    items = [item for one in lists for item in one]
    if not items or isinstance(items[0], int):
        width = max(len(one) for one in lists)
        return [_value([one[place] for one in lists if place < len(one)]) for place in range(width)]
    if isinstance(items[0], agent_pb.RdmaDevice):
        return _devices(items)
    found: dict[tuple[int, int, str], agent_pb.BlkioStatsEntry] = {}
    for item in items:
        key = (item.major, item.minor, item.op)
        before = found[key].value if key in found else 0
        found[key] = agent_pb.BlkioStatsEntry(
            major=item.major, minor=item.minor, op=item.op, value=min(before + item.value, _MOST)
        )
    return list(found.values())


def _devices(items: Sequence[agent_pb.RdmaDevice]) -> list[agent_pb.RdmaDevice]:
    found: dict[str, agent_pb.RdmaDevice] = {}
    for item in items:
        before = found.setdefault(item.name, agent_pb.RdmaDevice(name=item.name))
        before.hca_handles = min(before.hca_handles + item.hca_handles, _MOST_32)
        before.hca_objects = min(before.hca_objects + item.hca_objects, _MOST_32)
    return list(found.values())
