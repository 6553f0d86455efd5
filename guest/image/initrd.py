"""The initrd: busybox, the drivers that every guest needs, and the script that turns them into a running agent.

It is not compressed: under TCG, unpacking costs more than reading, and the host has it in its page cache.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from guest.image import cpio, modules

_SCRIPT = Path(__file__).with_name("init.sh")


def build(busybox: bytes, files: Mapping[str, bytes], builtin: frozenset[str], release: str) -> bytes:
    """Return the initrd's bytes.

    `files` are the kernel package's modules by their path below /lib/modules/<release>/. Raises
    modules.UnknownModuleError if a driver of modules.BOOT_MODULES is neither there nor built in.
    """
    known = {module.name: module for path, data in files.items() if (module := modules.parse(path, data))}
    wanted = [name for name in modules.BOOT_MODULES if name in known or name not in builtin]
    order = modules.load_order(known, wanted, builtin)
    base = f"lib/modules/{release}"
    entries = [cpio.directory(path) for path in ("bin", "dev", "etc", "root", "sys", "lib", "lib/modules", base)]
    # The kernel opens this node before it starts /init: without it, the first lines would go nowhere.
    entries.append(cpio.char_device("dev/console", 5, 1))
    entries.append(cpio.file("bin/busybox", busybox, 0o755))
    entries.append(cpio.file("init", _SCRIPT.read_bytes(), 0o755))
    entries.append(cpio.file("etc/modules", f"{' '.join(wanted)}\n".encode()))
    flat = [modules.Module(module.name, module.path.rsplit("/", 1)[-1], module.depends) for module in order]
    entries.append(cpio.file(f"{base}/modules.dep", modules.dep_index(flat, builtin).encode()))
    for module, there in zip(order, flat, strict=True):
        entries.append(cpio.file(f"{base}/{there.path}", modules.unsigned(files[module.path])))
    return cpio.archive(entries)
