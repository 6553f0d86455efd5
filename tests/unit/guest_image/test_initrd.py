"""The initrd's contents."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from guest.image import initrd, modules

Make = Callable[..., bytes]


def _files(make_module: Make) -> dict[str, bytes]:
    files = {f"kernel/drivers/{name}.ko": make_module("virtio_ring", signed=True) for name in modules.BOOT_MODULES}
    return files | {"kernel/drivers/virtio_ring.ko": make_module(), "kernel/drivers/unused.ko": make_module()}


def test_it_holds_the_boot_modules_and_what_they_need_only(make_module: Make) -> None:
    image = initrd.build(b"busybox", _files(make_module), frozenset(), "6.1")

    for name in (*modules.BOOT_MODULES, "virtio_ring"):
        assert f"lib/modules/6.1/{name}.ko\0".encode() in image
    assert b"unused" not in image
    assert b"~Module signature appended~" not in image


def test_drivers_that_are_built_in_are_not_asked_for(make_module: Make) -> None:
    files = _files(make_module)
    del files["kernel/drivers/erofs.ko"]

    image = initrd.build(b"busybox", files, frozenset({"erofs"}), "6.1")

    assert f"{' '.join(name for name in modules.BOOT_MODULES if name != 'erofs')}\n".encode() in image


def test_a_kernel_without_a_boot_driver_is_refused(make_module: Make) -> None:
    files = _files(make_module)
    del files["kernel/drivers/virtio_blk.ko"]

    with pytest.raises(modules.UnknownModuleError, match="virtio_blk"):
        initrd.build(b"busybox", files, frozenset(), "6.1")


@pytest.mark.skipif(shutil.which("dash") is None, reason="dash is not installed")
def test_the_init_script_is_valid_shell() -> None:
    script = Path(initrd.__file__).with_name("init.sh")

    checked = subprocess.run(["dash", "-n", str(script)], capture_output=True, timeout=10, check=False)

    assert (checked.returncode, checked.stderr) == (0, b"")
