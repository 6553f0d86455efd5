"""Builds a guest, or finds that it is built already."""

from __future__ import annotations

import platform
import posixpath
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from guest.image import application, contents, initrd, inputs, kernel, modules, rootfs, store, tools, tree
from guest.image.elf import ElfError
from guest.image.errors import BuildError
from guest.image.packages import Apt, Lock, Request
from guest.image.progress import step
from guest.image.store import Store

_BOOT = "boot/vmlinuz-"
_MODULES = "usr/lib/modules/"


@dataclass(frozen=True)
class Guest:
    """A complete guest: its directory, its key, and whether this call built it."""

    directory: Path
    key: str
    fresh: bool


@dataclass(frozen=True)
class KernelPackage:
    """What the kernel's package contains: bzImage, modules by path below /lib/modules/<release>/, builtin names."""

    release: str
    bzimage: bytes
    modules: Mapping[str, bytes]
    builtin: frozenset[str]


def build(out: Path, *, request: Request | None = None, refresh: bool = False, project: Path | None = None) -> Guest:
    """Make `out` hold the guest of the current inputs, and return it.

    apt is asked only if the versions for `request` are not resolved yet, if a downloaded package is gone, or if
    `refresh` is set. Raises BuildError. Safe against other builders on the same directory and against being killed.
    """
    request = request or Request()
    kept = Store(out)
    with kept.locked():
        sources = application.sources(project or application.project_root())
        lock = None if refresh else kept.load_lock(request)
        if lock is not None:
            key = inputs.key(lock, inputs.builder_files(), sources)
            if directory := kept.find(key):
                kept.select(directory)
                return Guest(directory, key, fresh=False)
        _require_host()
        lock = _resolved(kept, request, lock)
        key = inputs.key(lock, inputs.builder_files(), sources)
        directory = kept.find(key) or _built(kept, request, lock, key, sources)
        kept.select(directory)
        return Guest(directory, key, fresh=True)


def _require_host() -> None:
    if platform.machine() != "x86_64":
        raise BuildError(f"the guest can be built on x86_64 only: this machine is {platform.machine()}")
    tools.require_all()


def _resolved(kept: Store, request: Request, lock: Lock | None) -> Lock:
    apt = Apt(kept.apt, request)
    if lock is not None and apt.has(lock):
        return lock
    with step(f"packages from {request.mirror}"):
        lock = apt.resolve()
    kept.save_lock(request, lock)
    return lock


def _built(kept: Store, request: Request, lock: Lock, key: str, sources: Mapping[str, bytes]) -> Path:
    apt = Apt(kept.apt, request)
    with kept.workspace() as work:
        built, root = work / "guest", work / "root"
        built.mkdir()
        root.mkdir()
        with step(f"unpack {len(lock.packages)} packages"):
            packaged, kernel_package = _unpack(apt, lock)
        with step(f"kernel {kernel_package.release}"):
            (built / store.KERNEL).write_bytes(kernel.unpack(kernel_package.bzimage))
        with step("initrd"):
            (built / store.INITRD).write_bytes(_initrd(packaged, kernel_package))
        with step("root file system"):
            tree.write(_root(packaged, kernel_package, sources), root)
        with step("bytecode"):
            rootfs.compile_python(root)
            rootfs.check_imports(root)
        with step("image"):
            rootfs.pack(root, built / store.IMAGE)
        packages = {package.name: package.version for package in lock.packages}
        return kept.publish(key, built, {"key": key, "kernel": kernel_package.release, "packages": packages})


def _unpack(apt: Apt, lock: Lock) -> tuple[tree.Tree, KernelPackage]:
    packaged: tree.Tree = {}
    kernel_files: tree.Tree = {}
    for package in lock.packages:
        if package.name == lock.kernel:
            kernel_files = tree.unpack(apt.file(package), _is_kernel_file)
        else:
            packaged |= tree.unpack(apt.file(package), contents.is_wanted)
    return packaged, kernel_package(kernel_files)


def _is_kernel_file(path: str) -> bool:
    return path.startswith(_BOOT) or (path.startswith(_MODULES) and path.endswith((".ko", "/modules.builtin")))


def kernel_package(files: tree.Tree) -> KernelPackage:
    """Sort the files of a kernel package. Raises BuildError if it is not one, or if its modules are compressed."""
    images = [path for path in files if path.startswith(_BOOT)]
    if len(images) != 1:
        raise BuildError(f"the kernel package has {len(images)} kernels, expected one")
    release = images[0].removeprefix(_BOOT)
    base = f"{_MODULES}{release}/"
    found = {path.removeprefix(base): node.data for path, node in files.items() if path.endswith(".ko")}
    builtin = files.get(posixpath.join(base, "modules.builtin"))
    if not found or builtin is None:
        raise BuildError(f"the kernel package has no modules of {release} that can be read")
    return KernelPackage(release, files[images[0]].data, found, modules.builtin_names(builtin.data.decode()))


def _initrd(packaged: tree.Tree, package: KernelPackage) -> bytes:
    busybox = packaged.get("usr/bin/busybox")
    if busybox is None:
        raise BuildError("the packages do not contain usr/bin/busybox")
    try:
        return initrd.build(busybox.data, package.modules, package.builtin, package.release)
    except (ElfError, modules.UnknownModuleError, ValueError) as error:
        raise BuildError(f"the initrd cannot be made: {error}") from error


def _root(packaged: tree.Tree, package: KernelPackage, sources: Mapping[str, bytes]) -> tree.Tree:
    try:
        return rootfs.assemble(
            packaged, rootfs.kernel_modules(package.modules, package.builtin, package.release), sources
        )
    except (ElfError, modules.UnknownModuleError) as error:
        raise BuildError(f"the image's modules cannot be selected: {error}") from error
