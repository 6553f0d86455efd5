"""What a configuration asks of the guest before the first container, and guests that can't be reached here."""

from __future__ import annotations

from pathlib import Path

import pytest

from hypervisor import vsock
from tests.integration.sharing.conftest import Configure

pytestmark = pytest.mark.integration


def test_kernel_modules_are_loaded_with_their_parameters(configured: Configure):
    ctr = configured("[agent.kata]\nkernel_modules = ['dummy numdummies=3', 'loop max_loop=1']\n")
    done = ctr.run("c1", "sh", "-c", "cd /sys; echo class/net/dummy*; cat module/loop/parameters/max_loop").check()
    assert done.text.split() == ["class/net/dummy0", "class/net/dummy1", "class/net/dummy2", "1"]


def test_a_kernel_module_that_is_not_there_fails_the_start_by_its_name(configured: Configure):
    done = configured("[agent.kata]\nkernel_modules = ['no_such_module']\n").run("c1", "true")
    assert "cannot start the sandbox: phase guest failed" in done.error_text
    assert "modprobe no_such_module ended with status" in done.error_text


@pytest.mark.skipif(vsock.available(), reason="this host has vsock")
@pytest.mark.parametrize("key", ["image", "initrd"])
def test_a_stock_guest_needs_vsock_and_the_error_says_so(configured: Configure, tmp_path: Path, key: str):
    (tmp_path / "stock").write_bytes(b"stock")
    other = {"image": "initrd", "initrd": "image"}[key]
    text = f"[hypervisor.qemu]\n{key} = '{tmp_path}/stock'\n{other} = ''\nrootfs_type = 'ext4'\n"
    done = configured(text).run("c1", "true")
    assert "stock Kata guest, which is reached over vsock alone" in done.error_text
    assert "this host has no /dev/vhost-vsock: load the module vhost_vsock" in done.error_text
