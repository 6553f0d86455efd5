"""Kernel modules: what they need, which the guest carries, and in which order they load.

A module names its direct needs in its `.modinfo` section, so neither depmod nor a running kernel of that version is
needed. The index files are those of depmod (modules.dep(5), modules.alias), as busybox' modprobe reads them.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

from guest.image import elf

# What the initrd loads, all in one modprobe: one process start costs more than all of these drivers together, and
# the agent then never has to run modprobe before a container starts.
BOOT_MODULES = (
    "virtio_pci",  # the bus of every device below
    "virtio_blk",  # the root image
    "crc32c_generic",  # its checksum, which only cloud kernels have built in
    "erofs",  # its file system
    "virtio_console",  # the agent's channel where there is no vsock
    "virtio_rng",  # seeds getrandom() where the CPU has no RDRAND
    "virtio_net",  # the pod's interface
    "virtiofs",  # the directory that is shared with the host
    "overlay",  # container root file systems
    "vmw_vsock_virtio_transport",  # the agent's channel where the host has vhost-vsock
)

# What the image carries for modprobe and for the kernel's own requests: paths below /lib/modules/<release>/.
IMAGE_MODULES = (
    "kernel/drivers/acpi/nfit/*",
    "kernel/drivers/block/loop.ko",
    "kernel/drivers/block/virtio_blk.ko",
    "kernel/drivers/char/hw_random/virtio-rng.ko",
    "kernel/drivers/char/virtio_console.ko",
    "kernel/drivers/dax/*",
    "kernel/drivers/md/dm-*",
    "kernel/drivers/misc/pvpanic/*",
    "kernel/drivers/net/bonding/*",
    "kernel/drivers/net/dummy.ko",
    "kernel/drivers/net/geneve.ko",
    "kernel/drivers/net/ifb.ko",
    "kernel/drivers/net/ipvlan/*",
    "kernel/drivers/net/macv*.ko",
    "kernel/drivers/net/net_failover.ko",
    "kernel/drivers/net/tap.ko",
    "kernel/drivers/net/tun.ko",
    "kernel/drivers/net/veth.ko",
    "kernel/drivers/net/virtio_net.ko",
    "kernel/drivers/net/vrf.ko",
    "kernel/drivers/net/vxlan/*",
    "kernel/drivers/net/wireguard/*",
    "kernel/drivers/nvdimm/*",
    "kernel/drivers/ptp/*",
    "kernel/drivers/scsi/sd_mod.ko",
    "kernel/drivers/scsi/virtio_scsi.ko",
    "kernel/drivers/vfio/*",
    "kernel/drivers/virtio/*",
    "kernel/fs/9p/*",  # not in cloud kernels
    "kernel/fs/btrfs/*",
    "kernel/fs/erofs/*",
    "kernel/fs/fat/*",
    "kernel/fs/fuse/*",
    "kernel/fs/isofs/*",
    "kernel/fs/nls/*",
    "kernel/fs/overlayfs/*",
    "kernel/fs/squashfs/*",
    "kernel/fs/xfs/*",
    "kernel/net/8021q/*",
    "kernel/net/9p/*",
    "kernel/net/bridge/*",
    "kernel/net/core/*",
    "kernel/net/ipv4/*",
    "kernel/net/ipv6/*",
    "kernel/net/netfilter/*",
    "kernel/net/sched/*",
    "kernel/net/vmw_vsock/*",
    "kernel/net/xfrm/*",
)


_SIGNATURE_MAGIC = b"~Module signature appended~\n"
_SIGNATURE = struct.Struct(">BBBBB3xI")


class UnknownModuleError(LookupError):
    """A module is asked for that the kernel package neither carries nor has built in."""


@dataclass(frozen=True)
class Module:
    """A module: its name, its path below /lib/modules/<release>/, its direct needs and the aliases it answers to."""

    name: str
    path: str
    depends: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()


def canonical(name: str) -> str:
    """Return a module's name as the kernel spells it: dashes and underscores are one character there."""
    return name.replace("-", "_")


def name_of(path: str) -> str:
    """Return the name of the module at `path`, e.g. virtio_rng for kernel/drivers/char/hw_random/virtio-rng.ko."""
    return canonical(path.rsplit("/", 1)[-1].removesuffix(".ko"))


def parse(path: str, data: bytes) -> Module:
    """Read a module's needs and aliases. Raises elf.ElfError if `data` is not a module."""
    info = elf.section_data(data, ".modinfo")
    if info is None:
        raise elf.ElfError(f"{path} has no .modinfo section")
    values: dict[str, list[str]] = {}
    for item in info.decode("ascii", "replace").split("\0"):
        key, _, value = item.partition("=")
        values.setdefault(key, []).append(value)
    needs = [canonical(name) for name in ",".join(values.get("depends", [])).split(",") if name]
    return Module(name_of(path), path, tuple(needs), tuple(values.get("alias", ())))


def unsigned(data: bytes) -> bytes:
    """Return a module without the signature at its end (the kernel's Documentation/admin-guide/module-signing.rst).

    Checking signatures takes 4 to 6 ms per module under TCG, a tenth of the boot for those of the initrd, and guards
    nothing: who can change a module in the initrd can change the kernel beside it. apt has verified the package.
    """
    if not data.endswith(_SIGNATURE_MAGIC):
        return data
    end = len(data) - len(_SIGNATURE_MAGIC) - _SIGNATURE.size
    size = _SIGNATURE.unpack_from(data, end)[-1] if end > 0 else 0
    if size == 0 or size > end:
        raise elf.ElfError("malformed module signature")
    return data[: end - size]


def builtin_names(text: str) -> frozenset[str]:
    """Return the names in a modules.builtin file: modules that need no loading."""
    return frozenset(name_of(line) for line in text.split())


def load_order(
    modules: Mapping[str, Module], wanted: Iterable[str], builtin: frozenset[str] = frozenset()
) -> list[Module]:
    """Return `wanted` and all they need, each after what it needs.

    Raises UnknownModuleError for a name that is neither in `modules` nor in `builtin`, ValueError for a circle.
    """
    order: dict[str, Module] = {}
    for name in wanted:
        _visit(modules, canonical(name), builtin, order, ())
    return list(order.values())


def _visit(
    modules: Mapping[str, Module], name: str, builtin: frozenset[str], order: dict[str, Module], path: tuple[str, ...]
) -> None:
    if name in path:
        raise ValueError(f"modules need each other: {' -> '.join((*path, name))}")
    if name in order or (name in builtin and name not in modules):
        return
    if name not in modules:
        needed_by = f", needed by {path[-1]}" if path else ""
        raise UnknownModuleError(f"the kernel package has no module {name}{needed_by}")
    for need in modules[name].depends:
        _visit(modules, need, builtin, order, (*path, name))
    order[name] = modules[name]


def matching(modules: Mapping[str, Module], patterns: Iterable[str]) -> list[str]:
    """Return the names of the modules whose path matches one of `patterns`, sorted."""
    rules = tuple(patterns)
    return sorted(name for name, module in modules.items() if any(fnmatchcase(module.path, rule) for rule in rules))


def dep_index(modules: Iterable[Module], builtin: frozenset[str] = frozenset()) -> str:
    """Return a modules.dep file of `modules`, which must contain all that they need.

    Each line lists everything that a module needs, what must be loaded first standing last, as depmod does.
    """
    known = {module.name: module for module in modules}
    lines = []
    for module in known.values():
        needs = [need.path for need in load_order(known, [module.name], builtin) if need is not module]
        lines.append(f"{module.path}:{''.join(f' {path}' for path in reversed(needs))}\n")
    return "".join(sorted(lines))


def alias_index(modules: Iterable[Module]) -> str:
    """Return a modules.alias file of `modules`: by it, a mount of xfs or a new socket family finds its module."""
    return "".join(sorted(f"alias {alias} {module.name}\n" for module in modules for alias in module.aliases))
