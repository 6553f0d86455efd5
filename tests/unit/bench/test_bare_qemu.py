"""The floor's command line comes from the sandbox' own."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.bare_qemu import boot, floor_command

COMMAND = [
    "/usr/bin/qemu-system-x86_64",
    "-name", "guest=abc",
    "-nodefaults",
    "-machine", "q35,memory-backend=ram",
    "-object", "memory-backend-memfd,id=ram,size=2048M,share=on",
    "-chardev", "socket,id=qmp,fd=18",
    "-mon", "chardev=qmp,mode=control",
    "-chardev", "socket,id=agent,fd=22,server=on,wait=off",
    "-device", "virtserialport,chardev=agent,name=kata.agent.0",
    "-chardev", "socket,id=fs0,path=/run/kata/abc-1/fs",
    "-device", "vhost-user-fs-pci,chardev=fs0,tag=kataShared",
    "-netdev", "tap,id=net0,fds=5",
    "-device", "virtio-net-pci,netdev=net0",
    "-append", "console=ttyS0 quiet",
]  # fmt: skip


def test_helpers_and_network_are_dropped_with_their_back_ends():
    words = floor_command(COMMAND, 7)

    assert not any(part in word for word in words for part in ("vhost-user", "id=fs0", "tap", "virtio-net", "net0"))


def test_virtio_fs_stays_if_there_is_another_daemon_for_it():
    words = floor_command(COMMAND, 7, Path("/b/fs"))

    assert "socket,id=fs0,path=/b/fs" in words
    assert "vhost-user-fs-pci,chardev=fs0,tag=kataShared" in words
    assert not any(part in word for word in words for part in ("tap", "virtio-net"))


def test_the_guest_stays_the_same():
    words = floor_command(COMMAND, 7)

    assert words[:8] == COMMAND[:8]
    assert words[-2:] == COMMAND[-2:]
    assert "virtserialport,chardev=agent,name=kata.agent.0" in words


def test_the_agents_socket_is_ours_and_nobody_is_at_the_other_ones():
    words = floor_command(COMMAND, 7)

    assert "socket,id=agent,fd=7,server=on,wait=off" in words
    assert "null,id=qmp" in words
    assert not any("fd=18" in word for word in words)


def test_a_qemu_that_ends_at_once_is_told_with_its_last_words(tmp_path):
    script = tmp_path / "qemu"
    script.write_text("#!/bin/sh\necho no such machine >&2\nexit 1\n")
    script.chmod(0o755)

    with pytest.raises(RuntimeError, match="no such machine"):
        boot([str(script), "-nodefaults"], tmp_path, timeout=10)
