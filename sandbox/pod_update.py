"""An update of a pod of the Sandbox API: what its spec says afterwards. Pure.

The limits of a pod are its sizing annotations, as CRI's plugin writes them: whoever plans the pod, or asks for its
spec, finds them there before and after an update alike.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec.structs import replace

from config.annotation_names import PREFIX
from sandbox.errors import FailedPreconditionError
from sandbox.oci import Resources, Spec

_CRI = "io.kubernetes.cri."
#: What an update can't make of a pod: another one.
_FIXED = frozenset({_CRI + "container-type", _CRI + "sandbox-id"})
#: The kernel's period of CPU quotas, in microseconds, where nobody names one.
_DEFAULT_PERIOD = 100_000


def updated_spec(spec: Spec, resources: Resources | None, annotations: Mapping[str, str], is_up: bool) -> Spec:
    """The pod's spec with new limits and annotations; what they do not name is as before.

    Raises `FailedPreconditionError` for an annotation that a VM which runs (`is_up`) can't take on.
    """
    sizes = _sizes(resources) if resources is not None else {}
    for name, value in annotations.items():
        changes = spec.annotations.get(name) != value
        if changes and (name in _FIXED or (is_up and name.startswith(PREFIX))):
            raise FailedPreconditionError(f"annotation {name[:200]} can't change: it says what the sandbox was made as")
    return replace(spec, annotations={**spec.annotations, **annotations, **sizes})


def _sizes(resources: Resources) -> dict[str, str]:
    """The limits that an update names, as annotations."""
    cpu, memory = resources.cpu, resources.memory
    values: dict[str, int | None] = {}
    if cpu is not None:
        period = cpu.period or (_DEFAULT_PERIOD if cpu.quota is not None else None)
        values = {"sandbox-cpu-quota": cpu.quota, "sandbox-cpu-period": period, "sandbox-cpu-shares": cpu.shares}
    if memory is not None:
        values["sandbox-memory"] = memory.limit
    return {_CRI + name: str(value) for name, value in values.items() if value is not None}
