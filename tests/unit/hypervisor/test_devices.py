"""Each device renders to exactly the arguments QEMU is known to take."""

from __future__ import annotations

from pathlib import Path

import pytest

from hypervisor import devices
from hypervisor.errors import HypervisorError

CASES: list[tuple[devices.Device, str]] = [
    (
        devices.Machine(),
        "-machine q35,memory-backend=ram,dump-guest-core=off,sata=off,smbus=off,usb=off,vmport=off,hpet=off",
    ),
    (devices.Accelerator("tcg"), "-accel tcg,thread=multi,tb-size=256 -cpu max"),
    (devices.Accelerator("kvm", "pmu=off"), "-accel kvm -cpu host,pmu=off"),
    (devices.Accelerator("kvm", "pmu=off,,+vmx"), "-accel kvm -cpu host,pmu=off,+vmx"),
    (devices.Cpus(1, 4), "-smp 1,sockets=4,cores=1,threads=1,maxcpus=4"),
    (devices.Memory(512), "-object memory-backend-memfd,id=ram,size=512M,share=on -m size=512M"),
    (
        devices.Memory(512, 2048, 10),
        "-object memory-backend-memfd,id=ram,size=512M,share=on -m size=512M,slots=10,maxmem=2048M",
    ),
    (devices.Memory(512, 512, 10), "-object memory-backend-memfd,id=ram,size=512M,share=on -m size=512M"),
    (
        devices.VirtioMem(1536),
        "-object memory-backend-memfd,id=virtiomem-ram,size=1536M,share=on,reserve=off"
        " -device virtio-mem-pci,id=virtiomem0,memdev=virtiomem-ram,requested-size=0",
    ),
    (devices.Balloon(), "-device virtio-balloon-pci,deflate-on-oom=on,free-page-reporting=on"),
    (
        devices.PciBridge(1),
        "-device pci-bridge,id=pci-bridge-1,bus=pcie.0,chassis_nr=2,shpc=off,addr=0x3,io-reserve=4k,mem-reserve=1m,"
        "pref64-reserve=1m",
    ),
    (devices.RootPort(3), "-device pcie-root-port,id=rp3,bus=pcie.0,chassis=0,slot=3"),
    (
        devices.Rng(Path("/dev/urandom")),
        "-object rng-random,id=rng0,filename=/dev/urandom -device virtio-rng-pci,rng=rng0",
    ),
    (
        devices.RootImage(Path("/img,1")),
        "-blockdev driver=raw,node-name=image,read-only=on,file.driver=file,file.filename=/img,,1,file.locking=off"
        " -device virtio-blk-pci,drive=image,serial=kata-image",
    ),
    (
        devices.SharedFs(Path("/run/fs"), "kataShared", 1024),
        "-chardev socket,id=fs0,path=/run/fs -device vhost-user-fs-pci,chardev=fs0,tag=kataShared,queue-size=1024",
    ),
    (
        devices.SharedFs(Path("/run/fs"), "kataShared", 128, 64),
        "-chardev socket,id=fs0,path=/run/fs"
        " -device vhost-user-fs-pci,chardev=fs0,tag=kataShared,queue-size=128,cache-size=64M",
    ),
    (
        devices.NinepFs(Path("/run/kata/a,b"), "kataShared"),
        "-fsdev local,id=fs0,path=/run/kata/a,,b,security_model=none,multidevs=remap"
        " -device virtio-9p-pci,fsdev=fs0,mount_tag=kataShared",
    ),
    (
        devices.AgentSerial(7),
        "-device virtio-serial-pci,id=serial0,max_ports=2 -chardev socket,id=agent,fd=7,server=on,wait=off"
        " -device virtserialport,bus=serial0.0,nr=1,chardev=agent,name=kata.agent.0",
    ),
    (devices.AgentVsock(42, 8), "-device vhost-vsock-pci,id=vsock0,vhostfd=8,guest-cid=42"),
    (devices.Console(9), "-chardev socket,id=console,fd=9 -serial chardev:console"),
    (devices.Monitor(3), "-chardev socket,id=qmp,fd=3 -mon chardev=qmp,mode=control"),
    (devices.PanicNotifier(), "-device pvpanic"),
]


@pytest.mark.parametrize(("device", "expected"), CASES, ids=[type(device).__name__ for device, _ in CASES])
def test_a_device_renders_exactly(device: devices.Device, expected: str):
    assert " ".join(device.arguments()) == expected


@pytest.mark.parametrize(
    "device",
    [
        devices.Rng(Path("/dev/x\n-append")),
        devices.RootImage(Path("relative")),
        devices.SharedFs(Path("/s"), "a\0b", 1),
        devices.NinepFs(Path("shared"), "kataShared"),
        devices.NinepFs(Path("/s"), "a\nb"),
        devices.Machine("q35\n"),
        devices.Accelerator("kvm", "pmu=off\n"),
    ],
)
def test_hostile_values_are_refused(device: devices.Device):
    with pytest.raises(HypervisorError):
        device.arguments()


def test_a_tag_can_not_smuggle_in_a_property():
    (*_, rendered) = devices.SharedFs(Path("/s"), "tag,queue-size=1", 1024).arguments()
    assert rendered == "vhost-user-fs-pci,chardev=fs0,tag=tag,,queue-size=1,queue-size=1024"
