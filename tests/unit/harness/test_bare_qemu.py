"""The floor's command line comes from the sandbox' own."""

from __future__ import annotations

from bench.bare_qemu import floor_command

COMMAND = [
    "/usr/bin/qemu-system-x86_64",
    "-name", "sandbox-abc",
    "-nodefaults",
    "-machine", "q35,accel=tcg,memory-backend=ram",
    "-object", "memory-backend-memfd,id=ram,size=2048M,share=on",
    "-chardev", "socket,id=agent,path=/run/kata/abc-1/agent,server=on,wait=off",
    "-device", "virtserialport,chardev=agent,name=kata.agent.0",
    "-chardev", "socket,id=fs0,path=/run/kata/abc-1/fs",
    "-device", "vhost-user-fs-pci,chardev=fs0,tag=kataShared",
    "-netdev", "tap,id=net0,fds=5",
    "-device", "virtio-net-pci,netdev=net0",
    "-qmp", "unix:/run/kata/abc-1/qmp,server=on,wait=off",
]  # fmt: skip


def test_helpers_and_network_are_dropped_with_their_back_ends():
    words = floor_command(COMMAND, "/run/kata/abc-1", "/tmp/x")

    assert not any(part in word for word in words for part in ("vhost-user", "id=fs0", "tap", "virtio-net", "net0"))


def test_the_guest_stays_the_same_and_sockets_move():
    words = floor_command(COMMAND, "/run/kata/abc-1", "/tmp/x")

    assert words[:6] == [*COMMAND[:4], "-machine", "q35,accel=tcg,memory-backend=ram"]
    assert "socket,id=agent,path=/tmp/x/agent,server=on,wait=off" in words
    assert "virtserialport,chardev=agent,name=kata.agent.0" in words
    assert words[-1] == "unix:/tmp/x/qmp,server=on,wait=off"
