"""What our guest tells of cgroup v2 beyond Kata's protocol: how its words read in containerd's messages."""

from __future__ import annotations

from collections.abc import Iterable

from protos.gen.grpc import Pressure, PressureLine, RdmaDevice
from protos.gen.io.containerd.cgroups import v1, v2

#: Averages travel as hundredths of a percent.
_HUNDRED = 100


def psi(pressure: Pressure | None) -> v2.PsiStats | None:
    """Pressure in percent and microseconds, as the kernel has it; None if the guest does not tell it."""
    if pressure is None or (pressure.some is None and pressure.full is None):
        return None
    return v2.PsiStats(some=_line(pressure.some), full=_line(pressure.full))


def _line(line: PressureLine | None) -> v2.PsiData | None:
    if line is None:
        return None
    return v2.PsiData(
        avg10=line.avg10 / _HUNDRED, avg60=line.avg60 / _HUNDRED, avg300=line.avg300 / _HUNDRED, total=line.total
    )


def rdma_v1(current: Iterable[RdmaDevice], limits: Iterable[RdmaDevice]) -> v1.RdmaStat | None:
    """RDMA devices for a host of cgroup v1; None if the guest has none."""
    result = v1.RdmaStat(
        current=[v1.RdmaEntry(device=e.name, hca_handles=e.hca_handles, hca_objects=e.hca_objects) for e in current],
        limit=[v1.RdmaEntry(device=e.name, hca_handles=e.hca_handles, hca_objects=e.hca_objects) for e in limits],
    )
    return result if result.current or result.limit else None


def rdma_v2(current: Iterable[RdmaDevice], limits: Iterable[RdmaDevice]) -> v2.RdmaStat | None:
    """The same for one of cgroup v2."""
    result = v2.RdmaStat(
        current=[v2.RdmaEntry(device=e.name, hca_handles=e.hca_handles, hca_objects=e.hca_objects) for e in current],
        limit=[v2.RdmaEntry(device=e.name, hca_handles=e.hca_handles, hca_objects=e.hca_objects) for e in limits],
    )
    return result if result.current or result.limit else None
