"""What a template depends on, as text: equal for two VMs exactly if one can be restored from the other's template.

It is the very command line that QEMU would be run with (machine, CPU model, sizes, kernel parameters, devices), and the
identity of each file that it names: a file that was replaced or written to has another inode, size or time.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from hypervisor.command_line import Inherited, command_line
from hypervisor.errors import HypervisorError
from hypervisor.template.store import FORMAT
from hypervisor.vm import VmSpec

_NOWHERE = Path("/")


def template_spec(spec: VmSpec, vcpus: int, memory_mib: int) -> VmSpec:
    """The VM to save for pods like that of `spec`: of a base size, and without what is a pod's own.

    The shared file system and the network interfaces are plugged into the clones.
    """
    return replace(spec, name="template", run_dir=_NOWHERE, vcpus=vcpus, memory_mib=memory_mib, shared_fs=None, nics=())


def facts(spec: VmSpec) -> str:
    """All that the template of `spec` depends on, a line each; raises `HypervisorError` for a file that is missing."""
    channel = Inherited(0, 0, agent_listener=0, vhost_vsock=0, guest_cid=3)
    files = (spec.qemu, spec.kernel, spec.initrd, spec.image)
    lines = [f"format {FORMAT}", *command_line(spec, channel)]
    return "\n".join([*lines, *(identity(path) for path in files if path is not None)])


def identity(path: Path) -> str:
    """Device, inode, size and times of a file, which no change of it leaves as they are."""
    try:
        about = path.stat()
    except OSError as error:
        raise HypervisorError(f"{path}: {error.strerror}") from error
    numbers = (about.st_dev, about.st_ino, about.st_size, about.st_mtime_ns, about.st_ctime_ns)
    return f"{path} {' '.join(map(str, numbers))}"
