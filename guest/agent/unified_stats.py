"""What cgroup v2 counts and Kata's messages, whose shape is cgroup v1's, have no place for: pressure, RDMA, bursts.

A file that this kernel does not have is a field that is not there. See the kernel's cgroup-v2.rst and psi.rst.
"""

from __future__ import annotations

from guest.agent.cgroup import Cgroup
from protos.lean.gen.grpc import Pressure, PressureLine, RdmaDevice, UnifiedStats

#: "No limit", by the size of the number.
UNLIMITED = 0xFFFFFFFFFFFFFFFF
_UNLIMITED_32 = 0xFFFFFFFF


def unified_stats(cgroup: Cgroup, huge_page_sizes: list[str]) -> UnifiedStats:
    """All of it for a container's cgroup, with the limits of these sizes of huge pages."""
    cpu = cgroup.pairs("cpu.stat")
    limits = {size: cgroup.known(f"hugetlb.{size}.max", UNLIMITED) for size in huge_page_sizes}
    return UnifiedStats(
        cpu_pressure=pressure(cgroup.text("cpu.pressure")),
        memory_pressure=pressure(cgroup.text("memory.pressure")),
        io_pressure=pressure(cgroup.text("io.pressure")),
        rdma_current=rdma(cgroup.text("rdma.current")),
        rdma_limit=rdma(cgroup.text("rdma.max")),
        nr_bursts=cpu.get("nr_bursts", 0),
        burst_usec=cpu.get("burst_usec", 0),
        hugetlb_limits={size: limit for size, limit in limits.items() if limit is not None},
    )


def pressure(text: str) -> Pressure | None:
    """A pressure file; None if there is none, or the kernel does not count it (`psi=0`)."""
    lines = {name: _pressure_line(words) for name, *words in map(str.split, text.splitlines())}
    if not lines:
        return None
    return Pressure(some=lines.get("some"), full=lines.get("full"))


def _pressure_line(words: list[str]) -> PressureLine:
    values = {key: value for key, _, value in (word.partition("=") for word in words)}
    return PressureLine(
        avg10=_hundredths(values.get("avg10", "")),
        avg60=_hundredths(values.get("avg60", "")),
        avg300=_hundredths(values.get("avg300", "")),
        total=int(values.get("total", "0")),
    )


def _hundredths(text: str) -> int:
    """The kernel writes two digits after the point."""
    whole, _, fraction = text.partition(".")
    return int(whole or 0) * 100 + int((fraction + "00")[:2])


def rdma(text: str) -> list[RdmaDevice]:
    """A file of lines `device hca_handle=number hca_object=max`."""
    result: list[RdmaDevice] = []
    for name, *words in map(str.split, text.splitlines()):
        values = {key: _limited(value) for key, _, value in (word.partition("=") for word in words)}
        handles, objects = values.get("hca_handle", 0), values.get("hca_object", 0)
        result.append(RdmaDevice(name=name, hca_handles=handles, hca_objects=objects))
    return result


def _limited(text: str) -> int:
    return _UNLIMITED_32 if text == "max" else min(int(text), _UNLIMITED_32)
