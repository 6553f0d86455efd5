"""What the cache's VMs must be like for a pod to take one: the texts of `Config`'s answer, and how they differ."""

from __future__ import annotations

import json

from hypervisor.devices import NinepFs, SharedFs
from hypervisor.template.key import facts, template_spec
from hypervisor.vm import VmSpec
from sandbox.cache.plan import CachePlan

#: Raised with every change in how VMs are handed over.
FORMAT = 1
#: What a line of the log quotes of a difference at most, and how much before it.
_QUOTED, _BEFORE = 120, 60


def unfit(spec: VmSpec) -> str:
    """Why a VM like that has to be booted for its pod, in words; empty if it has not."""
    fs = spec.shared_fs
    if isinstance(fs, NinepFs):
        return "QEMU can't plug virtio-9p into a running VM"
    if isinstance(fs, SharedFs) and fs.cache_size_mib:
        return "the window of DAX (virtio_fs_cache_size) needs room that only a boot makes"
    return ""


def base_spec(spec: VmSpec, plan: CachePlan) -> VmSpec:
    """The waiting VM for pods like that of `spec`."""
    return template_spec(spec, plan.size.vcpus, plan.size.memory_mib)


def vm_json(spec: VmSpec) -> str:
    """All that a waiting VM (`base_spec`) is: its command line and the identity of its files.

    Raises `HypervisorError` for a file that is missing.
    """
    return json.dumps({"format": FORMAT, "hypervisor": "qemu", "vm": facts(spec).split("\n")})


def difference(theirs: str, ours: str) -> str:
    """How two such texts differ, in words; empty if they don't. `theirs` is not to be trusted to be JSON."""
    if theirs == ours:
        return ""
    try:
        there, here = json.loads(theirs), json.loads(ours)
    except ValueError:
        return "its configuration is not one of ours"
    if not isinstance(there, dict) or there.get("format") != here.get("format"):
        return "it is of another version"
    for key in here:
        if there.get(key) != here[key]:
            return f"{key}: {_first(there.get(key), here[key])}"
    return "it has settings that are unknown here"


def _first(theirs: object, ours: object) -> str:
    """The first difference of two values or lists."""
    if isinstance(theirs, list) and isinstance(ours, list):
        pairs = [(there, here) for there, here in zip(theirs, ours, strict=False) if there != here]
        theirs, ours = pairs[0] if pairs else (f"{len(theirs)} items", f"{len(ours)} items")
    there, here = str(theirs), str(ours)
    same = next((at for at, (one, other) in enumerate(zip(there, here, strict=False)) if one != other), len(here))
    begin = max(0, same - _BEFORE)
    return f"{there[begin:][:_QUOTED]!r} there, {here[begin:][:_QUOTED]!r} here"
