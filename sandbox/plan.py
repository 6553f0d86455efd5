"""What the start of a sandbox will do, as plain values, worked out before anything is touched: pure.

The configuration says what a VM is, the spec's annotations how large, the spec's mounts which of the pod's files the
guest itself needs.
"""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from config import Config
from hypervisor.accelerator import resolve
from hypervisor.channel import resolve_channel
from hypervisor.virtiofsd import VirtiofsdSpec
from hypervisor.vm import VmSpec
from protos.gen import grpc as agent_pb

from sandbox import guest_paths, sizing
from sandbox.annotations import ContainerKind
from sandbox.kernel_params import guest_kind, kernel_params
from sandbox.oci import Spec, SpecMount
from sandbox.volumes import is_bind
