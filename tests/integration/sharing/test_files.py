"""A directory of the host in a container, over virtio-fs: whatever programs do with files works there."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest

from tests.integration.sharing import place
from tests.integration.sharing.conftest import Configure, mount

pytestmark = pytest.mark.integration

#: virtiofsd holds a descriptor of every file that the guest knows of, and may not have as many everywhere.
FILES = min(50_000, resource.getrlimit(resource.RLIMIT_NOFILE)[1] * 3 // 4)


def test_files_do_what_files_do(configured: Configure, tmp_path: Path):
    ctr = configured("[hypervisor.qemu]\nvirtio_fs_extra_args = ['--thread-pool-size=1', '--xattr']\n")
    with place.made(tmp_path, FILES) as directory:
        done = ctr.run("c1", *place.COMMAND, options=("--rm", *place.mounts(directory)))
    assert place.outcomes(done) == place.EXPECTED | {"many_files": [FILES, [0]]}
    place.check_host_sees_it(directory)


def test_with_everything_cached_files_of_the_host_are_read_and_those_of_the_guest_written(
    configured: Configure, tmp_path: Path
):
    ctr = configured("[hypervisor.qemu]\nvirtio_fs_cache = 'always'\n")
    (tmp_path / "volume").mkdir()
    (tmp_path / "volume" / "file").write_text("from the host")
    script = "cat /volume/file; echo from the guest > /volume/new"
    done = ctr.run("c1", "sh", "-c", script, options=("--rm", *mount(tmp_path / "volume", "/volume"))).check()
    assert done.text == "from the host"
    assert (tmp_path / "volume" / "new").read_text() == "from the guest\n"


def test_a_dax_window_that_qemu_does_not_know_is_told(configured: Configure):
    done = configured("[hypervisor.qemu]\nvirtio_fs_cache_size = 64\n").run("c1", "true")
    assert "phase vm failed" in done.error_text
    assert "cache-size" in done.error_text
