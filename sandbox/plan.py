"""What the start of a sandbox will do, as plain values, worked out before anything is touched.

The configuration says what a VM is, the spec's annotations how large it has to be.
"""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from config import Config, HypervisorConfig
from hypervisor.virtiofsd import VirtiofsdSpec
from hypervisor.vm import VmSpec

from sandbox import guest_paths
from sandbox.annotations import ContainerKind
from sandbox.guest_setup import create_sandbox_arguments
from sandbox.kernel_params import guest_kind, kernel_params
from sandbox.oci import Spec
from sandbox.sizing import HostSize, VmSize, requested, vm_size


@dataclass(frozen=True)
class SandboxPlan:
    """All that `Machine` needs; times in seconds."""

    vm: VmSpec
    virtiofsd: VirtiofsdSpec | None
    shared_dir: Path
    create_sandbox: dict[str, Any]
    seccomp: bool
    dial_timeout: float
    create_timeout: float


@dataclass(frozen=True)
class Resolved:
    """What `auto` came to on this host."""

    accelerator: str
    agent_channel: str


def host_size() -> HostSize:
    """Processors this process may use, and the host's memory."""
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return HostSize(len(os.sched_getaffinity(0)), pages >> 20)
