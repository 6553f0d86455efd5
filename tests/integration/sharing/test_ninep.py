"""virtio-9p: a pod on a kernel that has it, and what is said of one that does not."""

from __future__ import annotations

from pathlib import Path

import pytest

from guest.image.builder import build
from guest.image.packages import Request
from tests.fakes.configmap import ConfigMap
from tests.harness import paths
from tests.integration.sharing import place
from tests.integration.sharing.conftest import Configure, mount

pytestmark = pytest.mark.integration

SHARED_FS = "[hypervisor.qemu]\nshared_fs = 'virtio-9p'\nmsize_9p = 65536\n"
#: QEMU opens no special files for a guest since CVE-2023-2861, so none can be made either.
SPECIAL = ("fifo", "unix_socket")


@pytest.fixture(scope="session")
def ninep_guest() -> str:
    """Keys of a guest like ours with Debian's full kernel, which has 9p; built once, as the other one is."""
    guest = build(paths.BUILD / "guest-9p", request=Request(kernel="linux-image-amd64")).directory
    return (
        f"kernel = '{guest}/vmlinux'\ninitrd = '{guest}/kata-initrd.img'\nimage = '{guest}/kata-image.erofs'\n"
        "rootfs_type = 'erofs'\n"
    )


def test_a_guest_without_it_is_told_what_it_lacks(configured: Configure):
    done = configured(SHARED_FS).run("c1", "true")
    assert "cannot start the sandbox: phase guest failed" in done.error_text
    assert 'shared_fs = "virtio-9p" needs a guest kernel with the modules 9p, 9pnet and 9pnet_virtio' in done.error_text


def test_files_and_updates_are_shared(configured: Configure, ninep_guest: str, tmp_path: Path):
    ctr = configured(SHARED_FS + ninep_guest)
    volume = ConfigMap(tmp_path / "conf", {"key": b"1"})
    with place.made(tmp_path, files=1000) as directory:
        options = (*place.mounts(directory), *mount(volume.directory, "/conf", "rbind:ro"))
        ctr.run_detached("c1", "sleep", "1000", options=options)
        seen = place.outcomes(ctr.exec("c1", *place.COMMAND, exec_id="probe"))
    assert {key: value for key, value in seen.items() if key not in SPECIAL} == {
        key: value for key, value in place.EXPECTED.items() if key not in SPECIAL
    } | {"many_files": [1000, [0]]}
    place.check_host_sees_it(directory)
    mounted = ctr.exec("c1", "grep", " /place ", "/proc/mounts", exec_id="mounts").check().text
    assert mounted.startswith("kataShared /place 9p rw,")
    assert ",mmap,access=client,msize=65536,trans=virtio" in mounted
    assert ctr.exec("c1", "cat", "/conf/key", exec_id="before").check().text == "1"
    volume.update({"key": b"2"})
    assert ctr.exec("c1", "cat", "/conf/key", exec_id="after").check().text == "2"
    assert ctr.exec("c1", "sh", "-c", "echo x > /conf/..data/key", exec_id="write").returncode
    ctr.remove("c1")
