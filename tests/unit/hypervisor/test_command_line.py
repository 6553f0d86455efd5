"""The whole command line, as QEMU gets it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hypervisor.command_line import Inherited, command_line
from hypervisor.devices import SharedFs
from hypervisor.errors import HypervisorError
from hypervisor.vm import VmSpec

SPEC = VmSpec(
    name="pod,1",
    run_dir=Path("/run/kata/pod"),
    qemu=Path("/usr/bin/qemu-system-x86_64"),
    kernel=Path("/boot/vmlinux"),
    initrd=Path("/boot/initrd"),
    image=Path("/boot/image"),
    vcpus=1,
    memory_mib=512,
    accelerator="tcg",
)
SERIAL = Inherited(monitor=3, console=4, agent_listener=5)
VSOCK = Inherited(monitor=3, console=4, vhost_vsock=6, guest_cid=77)


def test_a_plain_pod():
    assert command_line(SPEC, SERIAL) == [
        *("/usr/bin/qemu-system-x86_64", "-name", "guest=pod,,1,debug-threads=on"),
        *("-no-user-config", "-nodefaults", "-display", "none", "-no-reboot", "-rtc", "base=utc,clock=host"),
        "-machine",
        "q35,memory-backend=ram,dump-guest-core=off,sata=off,smbus=off,usb=off,vmport=off,hpet=off",
        *("-accel", "tcg,thread=multi,tb-size=256", "-cpu", "max", "-smp", "1,sockets=1,cores=1,threads=1,maxcpus=1"),
        *("-object", "memory-backend-memfd,id=ram,size=512M,share=on", "-m", "size=512M"),
        *("-chardev", "socket,id=qmp,fd=3", "-mon", "chardev=qmp,mode=control"),
        *("-chardev", "socket,id=console,fd=4", "-serial", "chardev:console", "-device", "pvpanic"),
        "-device",
        "pci-bridge,id=pci-bridge-0,bus=pcie.0,chassis_nr=1,shpc=off,addr=0x2,io-reserve=4k,mem-reserve=1m,"
        "pref64-reserve=1m",
        *("-object", "rng-random,id=rng0,filename=/dev/urandom", "-device", "virtio-rng-pci,rng=rng0"),
        "-blockdev",
        "driver=raw,node-name=image,read-only=on,file.driver=file,file.filename=/boot/image,file.locking=off",
        *("-device", "virtio-blk-pci,drive=image,serial=kata-image"),
        *("-device", "virtio-serial-pci,id=serial0,max_ports=2"),
        *("-chardev", "socket,id=agent,fd=5,server=on,wait=off"),
        *("-device", "virtserialport,bus=serial0.0,nr=1,chardev=agent,name=kata.agent.0"),
        *("-kernel", "/boot/vmlinux", "-initrd", "/boot/initrd", "-append"),
        "console=ttyS0 panic=-1 cryptomgr.notests tsc=reliable noreplace-smp no_timer_check rcupdate.rcu_expedited=1 "
        "swiotlb=noforce net.ifnames=0 quiet nr_cpus=1",
    ]


def test_a_pod_with_everything():
    spec = replace(
        SPEC,
        accelerator="kvm",
        initrd=None,
        cpu_features="pmu=off",
        max_vcpus=4,
        max_memory_mib=4096,
        agent_channel="vsock",
        shared_fs=SharedFs(Path("/run/kata/pod/fs"), "kataShared", 1024),
        seccomp_sandbox="on,spawn=deny",
        pci_bridges=0,
        pcie_root_ports=1,
        kernel_params=("agent.log=debug", "quiet"),
        debug=True,
    )
    text = " ".join(command_line(spec, VSOCK))
    for part in (
        "-accel kvm -cpu host,pmu=off -smp 1,sockets=4,cores=1,threads=1,maxcpus=4 ",
        "-m size=512M,slots=10,maxmem=4096M ",
        "-device pvpanic -device pcie-root-port,id=rp0,bus=pcie.0,chassis=0,slot=0 -object rng-random",
        "-device vhost-user-fs-pci,chardev=fs0,tag=kataShared,queue-size=1024 "
        "-device vhost-vsock-pci,id=vsock0,vhostfd=6,guest-cid=77 -sandbox on,spawn=deny -kernel /boot/vmlinux ",
        "loglevel=7 nr_cpus=4 memhp_default_state=online memory_hotplug.online_policy=auto-movable "
        "root=/dev/vda1 rootflags=data=ordered,errors=remount-ro ro rootfstype=ext4 "
        "agent.log=debug quiet",
    ):
        assert part in text
    assert "virtio-serial" not in text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"machine_type": "microvm"}, "machine type 'microvm' is not supported: use q35"),
        ({"machine_type": "q35,usb=on"}, "machine type 'q35,usb=on' is not supported"),
        ({"initrd": None, "image": None}, "neither initrd nor image"),
        ({"vcpus": 0}, "a VM of 0 vCPUs and 512 MiB can't run"),
        ({"memory_mib": 0}, "a VM of 1 vCPUs and 0 MiB can't run"),
        ({"pci_bridges": 6}, "6 PCI bridges"),
        ({"pcie_root_ports": -1}, "-1 PCIe root ports"),
        ({"kernel": Path("vmlinux")}, "kernel 'vmlinux' is not an absolute path"),
        ({"initrd": Path("-S")}, "initrd '-S' is not an absolute path"),
        ({"name": "a\nb"}, "control character"),
        ({"seccomp_sandbox": "on\n"}, "control character"),
        ({"kernel_params": ("a\0",)}, "control character in QEMU kernel parameters"),
        ({"agent_channel": "vsock"}, "no descriptor for agent channel 'vsock'"),
    ],
)
def test_what_can_not_run_is_refused(change: dict[str, Any], message: str):
    with pytest.raises(HypervisorError) as caught:
        command_line(replace(SPEC, **change), SERIAL)
    assert message in str(caught.value)


def test_a_versioned_q35_is_a_q35():
    assert "pc-q35-7.2," in " ".join(command_line(replace(SPEC, machine_type="pc-q35-7.2"), SERIAL))
