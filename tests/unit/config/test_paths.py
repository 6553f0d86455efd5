"""`check_paths`: the files a VM needs, asked for just before it starts."""

from __future__ import annotations

import dataclasses
import os
import socket
from pathlib import Path

import pytest

from config import Config, ConfigError, check_paths, load


@pytest.fixture
def usable(write) -> Config:
    """A configuration whose files all exist."""
    for name in ("qemu", "virtiofsd"):
        write("#!/bin/true\n", name).chmod(0o755)
    files = {name: write("x", name) for name in ("vmlinux", "rootfs", "initrd")}
    folder = files["vmlinux"].parent
    return load(
        write(f"""
            [hypervisor.qemu]
            path = "{folder}/qemu"
            virtio_fs_daemon = "{folder}/virtiofsd"
            kernel = "{files["vmlinux"]}"
            image = "{files["rootfs"]}"
            initrd = "{files["initrd"]}"
        """)
    )


def fault(loaded: Config) -> str:
    with pytest.raises(ConfigError) as caught:
        check_paths(loaded)
    return str(caught.value)


def test_files_that_are_all_there_pass(usable):
    assert check_paths(usable) is None


@pytest.mark.parametrize(("shared_fs", "is_needed"), [("virtio-fs", True), ("virtio-9p", False), ("none", False)])
def test_virtiofsd_is_needed_for_virtio_fs_only(usable, shared_fs, is_needed):
    vm = dataclasses.replace(usable.hypervisor, shared_fs=shared_fs, virtio_fs_daemon=Path("/no/virtiofsd"))
    changed = dataclasses.replace(usable, hypervisor=vm)

    if is_needed:
        assert "/no/virtiofsd: No such file or directory" in fault(changed)
    else:
        assert check_paths(changed) is None


def test_a_guest_without_an_image_needs_none(usable):
    vm = dataclasses.replace(usable.hypervisor, image=None)

    assert check_paths(dataclasses.replace(usable, hypervisor=vm)) is None


@pytest.mark.parametrize("name", ["path", "virtio_fs_daemon", "kernel", "image", "initrd"])
def test_a_missing_file_is_named_with_key_and_line(usable, name):
    missing: Path = getattr(usable.hypervisor, name)
    missing.unlink()

    assert fault(usable) == (
        f"{usable.origins['hypervisor.qemu', name]}: [hypervisor.qemu] {name}: {missing}: No such file or directory"
    )


def test_a_program_that_is_not_executable_is_named(usable):
    usable.hypervisor.path.chmod(0o644)

    assert fault(usable).endswith(f"[hypervisor.qemu] path: {usable.hypervisor.path} is not an executable file")


@pytest.mark.parametrize("name", ["kernel", "initrd", "image"])
def test_a_directory_in_place_of_a_file_is_named(usable, name):
    path: Path = getattr(usable.hypervisor, name)
    path.unlink()
    path.mkdir()

    assert fault(usable).endswith(f"{path} is not a readable file")


def test_an_entropy_source_that_is_a_socket_is_named(usable, tmp_path):
    path = tmp_path / "entropy"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.fspath(path))
    vm = dataclasses.replace(usable.hypervisor, entropy_source=path)

    assert "is not a readable device or file" in fault(dataclasses.replace(usable, hypervisor=vm))


def test_a_missing_default_says_that_it_is_one(write):
    loaded = load(
        write("[hypervisor.qemu]\npath = '/bin/true'\nvirtio_fs_daemon = '/bin/true'\nkernel = '/etc/passwd'\n")
    )
    gone = dataclasses.replace(loaded.hypervisor, image=Path("/nonexistent/rootfs.img"))

    message = fault(dataclasses.replace(loaded, hypervisor=gone))

    assert message.startswith(f"[hypervisor.qemu] image (its default, not set in {loaded.source}): /nonexistent")
