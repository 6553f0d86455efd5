"""Contract: what a stock Kata guest is told, field by field, is what Kata's own runtime tells it.

The example is that of one pod with its pause container and one more, over virtio-fs, with an image.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import config
from hypervisor.accelerator import Accelerator
from hypervisor.command_line import Inherited, command_line
from protos.gen import grpc as agent_pb
from sandbox import oci
from sandbox.annotations import ContainerKind
from sandbox.errors import FailedPreconditionError
from sandbox.guest_spec import guest_spec
from sandbox.plan import Host, SandboxPlan, plan_sandbox
from sandbox.sizing import HostSize
from sandbox.volumes import plan_volumes

SID = "5e8f" * 16
SHARED = "/run/kata-containers/shared/containers"
VSOCK = Inherited(monitor=3, console=4, vhost_vsock=5, guest_cid=77)


@pytest.fixture
def planned(tmp_path: Path):
    def plan(text: str, *, has_vsock: bool = True) -> SandboxPlan:
        file = tmp_path / "configuration.toml"
        file.write_text(text)
        (tmp_path / "resolv.conf").write_text("nameserver 10.96.0.10\nsearch default.svc\n")
        resolv = oci.SpecMount("/etc/resolv.conf", "bind", str(tmp_path / "resolv.conf"), ["rbind", "ro"])
        linux = oci.Linux(namespaces=[oci.Namespace("network")])
        spec = oci.Spec(root=oci.Root("rootfs"), hostname="pod", mounts=[resolv], linux=linux)
        host = Host(HostSize(4, 16384), Accelerator("kvm", ""), has_vsock)
        return plan_sandbox(config.load(file), spec, ContainerKind.SANDBOX, SID, Path("/run/kata/s"), host)

    return plan


IMAGE = "[hypervisor.qemu]\nkernel = '/opt/kata/vmlinux'\nimage = '/opt/kata/kata.img'\n"
INITRD = "[hypervisor.qemu]\nkernel = '/opt/kata/vmlinux'\ninitrd = '/opt/kata/kata-initrd.img'\n"


def test_the_sandbox_is_created_with_kata_s_fields(planned):
    asked: dict[str, Any] = planned(IMAGE).create_sandbox
    assert asked == {
        "hostname": "pod",
        "dns": ["nameserver 10.96.0.10", "search default.svc"],
        "sandbox_id": SID,
        "sandbox_pidns": False,
        "guest_hook_path": "",
        "kernel_modules": [],
        "storages": [
            agent_pb.Storage(
                driver="virtio-fs", source="kataShared", fstype="virtiofs", mount_point=f"{SHARED}/", options=[]
            ),
            agent_pb.Storage(
                driver="ephemeral",
                source="shm",
                fstype="tmpfs",
                mount_point="/run/kata-containers/sandbox/shm",
                options=["noexec", "nosuid", "nodev", "mode=1777", "size=67108864"],
            ),
        ],
    }


def test_kernel_modules_are_words(planned):
    asked = planned(f"{IMAGE}[agent.kata]\nkernel_modules = ['e1000e InterruptThrottleRate=3000,3000 EEE=1', 'i915']\n")
    assert asked.create_sandbox["kernel_modules"] == [
        agent_pb.KernelModule(name="e1000e", parameters=["InterruptThrottleRate=3000,3000", "EEE=1"]),
        agent_pb.KernelModule(name="i915", parameters=[]),
    ]


@pytest.mark.parametrize("text", [IMAGE, INITRD, "[hypervisor.qemu]\n"])
def test_only_our_guest_is_asked_for_drivers_that_kata_s_kernels_have(planned, text: str):
    memory = "enable_virtio_mem = true\nreclaim_guest_freed_memory = true\n"
    modules = [] if text in (IMAGE, INITRD) else ["virtio_mem", "virtio_balloon"]
    assert [item.name for item in planned(text + memory).create_sandbox["kernel_modules"]] == modules


@pytest.mark.parametrize("text", [IMAGE, INITRD])
def test_the_vm_has_kata_s_devices(planned, text: str):
    vm = planned(text).vm
    words = command_line(vm, VSOCK)
    line = " ".join(words)
    assert vm.agent_channel == "vsock"
    assert "-accel kvm -cpu host,pmu=off" in line
    assert "-device vhost-vsock-pci,id=vsock0,vhostfd=5,guest-cid=77" in line
    assert "-device vhost-user-fs-pci,chardev=fs0,tag=kataShared,queue-size=1024" in line
    assert "memory-backend-memfd,id=ram,size=2048M,share=on" in line
    assert "rng-random,id=rng0,filename=/dev/urandom" in line
    assert "virtio-serial" not in line
    # With an image it is the only disk, so its first partition is /dev/vda1.
    assert line.count("virtio-blk-pci") == (1 if text is IMAGE else 0)
    assert ("-initrd /opt/kata/kata-initrd.img" in line) is (text is INITRD)
    append = words[words.index("-append") + 1]
    assert ("systemd.unit=kata-containers.target" in append) is (text is IMAGE)
    assert ("root=/dev/vda1" in append) is (text is IMAGE)


@pytest.mark.parametrize("text", [IMAGE, INITRD])
def test_a_host_without_vsock_is_told_what_it_lacks(planned, text: str):
    with pytest.raises(
        FailedPreconditionError, match=r"this host has no /dev/vhost-vsock: load the module vhost_vsock"
    ):
        planned(text, has_vsock=False)


def test_vsock_that_is_asked_for_has_to_be_there(planned):
    with pytest.raises(
        FailedPreconditionError, match=r'agent_channel = "vsock", but this host has no /dev/vhost-vsock'
    ):
        planned("[hypervisor.qemu]\nagent_channel = 'vsock'\n", has_vsock=False)


def test_a_guest_that_listens_on_virtio_serial_may_say_so(planned):
    text = f"{IMAGE}agent_channel = 'virtio-serial'\n"
    assert planned(text, has_vsock=False).vm.agent_channel == "virtio-serial"


def test_our_guest_goes_without_vsock(planned):
    assert planned("[hypervisor.qemu]\n", has_vsock=False).vm.agent_channel == "virtio-serial"
    assert planned("[hypervisor.qemu]\n", has_vsock=True).vm.agent_channel == "vsock"


def test_the_pause_container_is_created_with_kata_s_fields(planned):
    kinds = ("pid", "ipc", "uts", "mount", "network", "cgroup", "time")
    spec = oci.Spec(
        oci_version="1.1.0",
        root=oci.Root("rootfs", readonly=True),
        process=oci.Process(args=["/pause"], cwd="/", env=["PATH=/bin"]),
        hostname="pod",
        annotations={"io.kubernetes.cri.container-type": "sandbox"},
        hooks=oci.Hooks(prestart=[oci.Hook("/host/hook")]),
        mounts=[
            oci.SpecMount("/proc", "proc", "proc", ["nosuid", "noexec", "nodev"]),
            oci.SpecMount("/dev/shm", "bind", "/run/containerd/sandboxes/x/shm", ["rbind"]),
            oci.SpecMount("/etc/resolv.conf", "bind", "/var/lib/resolv.conf", ["rbind", "ro"]),
        ],
        linux=oci.Linux(
            namespaces=[oci.Namespace(kind, f"/proc/7/ns/{kind}") for kind in kinds],
            resources=oci.Resources(cpu=oci.Cpu(shares=2, cpus="0-3", mems="0")),
            cgroups_path="/kubepods/pod1/sandbox",
            masked_paths=["/proc/kcore"],
            readonly_paths=["/proc/sys"],
        ),
    )
    plan = planned(IMAGE)
    volumes = plan_volumes(SID, spec.mounts)
    message = guest_spec(
        SID,
        spec,
        volumes.mounts,
        kind=ContainerKind.SANDBOX,
        bundle=Path("/run/bundles/x"),
        seccomp=plan.seccomp,
        dropped_namespaces=plan.dropped_namespaces,
    )
    (entry,) = volumes.entries
    assert message == agent_pb.Spec(
        version="1.1.0",
        process=agent_pb.Process(args=["/pause"], cwd="/", env=["PATH=/bin"], user=agent_pb.User()),
        root=agent_pb.Root(path=f"{SHARED}/{SID}/rootfs", readonly=True),
        hostname="pod",
        annotations={
            "io.kubernetes.cri.container-type": "sandbox",
            "io.katacontainers.pkg.oci.container_type": "pod_sandbox",
            "io.katacontainers.pkg.oci.bundle_path": "/run/bundles/x",
        },
        mounts=[
            agent_pb.Mount(destination="/proc", type="proc", source="proc", options=["nosuid", "noexec", "nodev"]),
            agent_pb.Mount(
                destination="/dev/shm", type="bind", source="/run/kata-containers/sandbox/shm", options=["rbind"]
            ),
            agent_pb.Mount(
                destination="/etc/resolv.conf", type="bind", source=f"{SHARED}/{entry.name}", options=["rbind", "ro"]
            ),
        ],
        linux=agent_pb.Linux(
            namespaces=[agent_pb.LinuxNamespace(type=kind) for kind in ("ipc", "uts", "mount")],
            resources=agent_pb.LinuxResources(cpu=agent_pb.LinuxCpu(shares=2)),
            cgroups_path="/kubepods/pod1/sandbox",
            masked_paths=["/proc/kcore"],
            readonly_paths=["/proc/sys"],
        ),
    )


def test_shared_files_have_kata_s_names():
    (entry,) = plan_volumes(SID, [oci.SpecMount("/etc/resolv.conf", "bind", "/x", ["rbind"])]).entries
    container, digest, name = entry.name.rsplit("-", 2)
    assert (container, name) == (SID, "resolv.conf")
    assert len(bytes.fromhex(digest)) == 8


def test_our_guest_gets_the_namespaces_that_it_makes_by_the_spec(planned):
    dropped = planned("[hypervisor.qemu]\n").dropped_namespaces
    assert dropped == {"network", "time", "user"}
    assert planned(IMAGE).dropped_namespaces == {"network", "time", "user", "cgroup", "pid"}
