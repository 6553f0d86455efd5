"""Contract: a stock Kata guest's kernel gets what Kata's runtime gives it, our guest only what it needs."""

from __future__ import annotations

from pathlib import Path

import pytest

from hypervisor.kernel_params import kernel_command_line
from hypervisor.vm import VmSpec
from sandbox.kernel_params import GuestKind, guest_kind, kernel_params

CONFIGURED = ["cgroup_no_v1=all", "systemd.unified_cgroup_hierarchy=1"]

#: Kata's own for x86 and an image on virtio-blk, in its order; no debugging.
KATA = """
    tsc=reliable no_timer_check rcupdate.rcu_expedited=1 i8042.direct=1 i8042.dumbkbd=1 i8042.nopnp=1 i8042.noaux=1
    noreplace-smp reboot=k cryptomgr.notests net.ifnames=0 pci=lastbus=0
    root=/dev/vda1 rootflags=data=ordered,errors=remount-ro ro rootfstype=ext4 console=hvc0 console=hvc1 quiet
    systemd.show_status=false panic=1 nr_cpus=4 selinux=0 systemd.unit=kata-containers.target
    systemd.mask=systemd-networkd.service systemd.mask=systemd-networkd.socket
    cgroup_no_v1=all systemd.unified_cgroup_hierarchy=1
"""
#: The machine's in their place: its console, and a panic that ends the VM at once.
CLASHES = {"console=hvc0", "console=hvc1", "panic=1"}
OURS = {"console=ttyS0", "panic=-1", "swiotlb=noforce"}


def command_line(kind: GuestKind, image_type: str = "ext4", **options: bool) -> list[str]:
    """The words the guest's kernel gets."""
    chosen = {"debug": False, "agent_debug": False, "debug_console": False} | options
    spec = VmSpec(
        name="s1",
        run_dir=Path("/run/kata/s1"),
        qemu=Path("/qemu"),
        kernel=Path("/kernel"),
        image=None if kind is GuestKind.KATA_INITRD else Path("/image"),
        initrd=None if kind is GuestKind.KATA_IMAGE else Path("/initrd"),
        image_type=image_type,
        vcpus=1,
        max_vcpus=4,
        memory_mib=2048,
        accelerator="kvm",
        debug=chosen["debug"],
        kernel_params=kernel_params(kind, CONFIGURED, **chosen),
    )
    return kernel_command_line(spec).split()


@pytest.mark.parametrize(
    ("image", "initrd", "kind"),
    [(True, True, GuestKind.OWN), (True, False, GuestKind.KATA_IMAGE), (False, True, GuestKind.KATA_INITRD)],
)
def test_the_guest_is_known_by_what_is_configured(image: bool, initrd: bool, kind: GuestKind):
    assert guest_kind(image=image, initrd=initrd) is kind
    assert kind.is_stock is (kind is not GuestKind.OWN)


def test_a_stock_image_gets_kata_s_parameters_and_nothing_else():
    assert set(command_line(GuestKind.KATA_IMAGE)) == set(KATA.split()) - CLASHES | OURS


def test_a_stock_initrd_gets_the_same_without_root_and_systemd():
    words = {word for word in KATA.split() if not word.startswith(("root", "systemd.")) and word != "ro"}
    assert set(command_line(GuestKind.KATA_INITRD)) == words - CLASHES | OURS | {CONFIGURED[1]}


def test_our_guest_gets_none_of_kata_s():
    words = command_line(GuestKind.OWN)
    assert not any(word.startswith(("root", "systemd.unit", "systemd.mask", "i8042", "selinux")) for word in words)


@pytest.mark.parametrize(
    ("image_type", "expected"),
    [
        ("ext4", ["root=/dev/vda1", "rootflags=data=ordered,errors=remount-ro", "ro", "rootfstype=ext4"]),
        ("xfs", ["root=/dev/vda1", "ro", "rootfstype=xfs"]),
        ("erofs", ["root=/dev/vda1", "ro", "rootfstype=erofs"]),
    ],
)
def test_the_root_is_mounted_by_its_type(image_type: str, expected: list[str]):
    words = command_line(GuestKind.KATA_IMAGE, image_type)
    assert [word for word in words if word.startswith("root") or word == "ro"] == expected


def test_a_debugged_kernel_and_systemd_talk():
    words = command_line(GuestKind.KATA_IMAGE, debug=True)
    assert {"systemd.show_status=true", "systemd.log_level=debug"} <= set(words)
    assert "quiet" not in words
    assert "systemd.show_status=false" not in words
    assert not any(word.startswith("systemd.l") for word in command_line(GuestKind.KATA_INITRD, debug=True))


@pytest.mark.parametrize("kind", GuestKind)
def test_the_agent_s_log_and_console_are_asked_for_behind_everything_else(kind: GuestKind):
    words = command_line(kind, agent_debug=True, debug_console=True)
    assert words[-3:] == ["agent.log=debug", "agent.debug_console", "agent.debug_console_vport=1026"]
    assert not any(word.startswith("agent.") for word in command_line(kind))


def test_the_agent_s_log_is_not_sent_to_a_port_that_nobody_reads():
    assert not any("log_vport" in word for word in command_line(GuestKind.KATA_IMAGE, agent_debug=True, debug=True))


@pytest.mark.parametrize("kind", GuestKind)
def test_the_configuration_s_come_after_the_runtime_s_so_that_they_win(kind: GuestKind):
    words = command_line(kind)
    assert words[-2:] == CONFIGURED
