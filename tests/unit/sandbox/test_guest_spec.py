"""Contract: the guest gets everything the OCI spec asks for, and nothing that names the host."""

from __future__ import annotations

import msgspec

from protos.gen import grpc as agent_pb
from sandbox import oci
from sandbox.guest_spec import guest_process, guest_resources, guest_spec


def spec(**linux) -> oci.Spec:
    return oci.Spec(
        root=oci.Root("rootfs", readonly=True),
        process=oci.Process(args=["sh"], cwd="/"),
        hostname="pod",
        annotations={"a": "b"},
        hooks=oci.Hooks(prestart=[oci.Hook("/bin/host-hook")]),
        linux=oci.Linux(**linux),
    )


def test_the_root_is_the_guest_s_path_and_hooks_of_the_host_stay_behind():
    message = guest_spec("c1", spec(), [], seccomp=False)
    assert message.root == agent_pb.Root(path="/run/kata-containers/shared/containers/c1/rootfs", readonly=True)
    assert message.hooks is None
    assert message.annotations.items() >= {"a": "b"}.items()
    assert message.hostname == "pod"


def test_a_spec_is_never_without_annotations_and_names_no_device_of_the_host():
    annotations = {"cdi.k8s.io/vendor": "vendor.com/gpu=0"}
    message = guest_spec("c1", msgspec.structs.replace(spec(), annotations=annotations), [], seccomp=False)
    assert message.annotations == {
        "io.katacontainers.pkg.oci.container_type": "single_container",
        "io.katacontainers.pkg.oci.bundle_path": "/",
    }


def test_namespaces_lose_their_paths_and_the_host_s_network_goes():
    kinds = ("pid", "ipc", "uts", "mount", "network", "time", "user", "cgroup")
    namespaces = [oci.Namespace(kind, f"/proc/1/ns/{kind}") for kind in kinds]
    message = guest_spec("c1", spec(namespaces=namespaces), [], seccomp=False)
    assert message.linux is not None
    assert [(item.type, item.path) for item in message.linux.namespaces] == [
        ("pid", ""),
        ("ipc", ""),
        ("uts", ""),
        ("mount", ""),
        ("cgroup", ""),
    ]


def test_a_process_arrives_with_all_it_asks_for():
    process = oci.Process(
        args=["id"],
        cwd="/work",
        env=["A=1"],
        terminal=True,
        console_size=oci.Box(height=24, width=80),
        user=oci.User(uid=1000, gid=100, additional_gids=[5, 6]),
        capabilities=oci.Capabilities(bounding=["CAP_CHOWN"], ambient=["CAP_KILL"]),
        rlimits=[oci.Rlimit("RLIMIT_NOFILE", hard=2048, soft=1024)],
        no_new_privileges=True,
        apparmor_profile="host-profile",
        selinux_label="host-label",
        oom_score_adj=-998,
    )
    message = guest_process(process)
    assert message.user == agent_pb.User(uid=1000, gid=100, additional_gids=[5, 6])
    assert message.capabilities == agent_pb.LinuxCapabilities(bounding=["CAP_CHOWN"], ambient=["CAP_KILL"])
    assert message.rlimits == [agent_pb.PosixRlimit(type="RLIMIT_NOFILE", hard=2048, soft=1024)]
    assert message.console_size == agent_pb.Box(height=24, width=80)
    assert (message.no_new_privileges, message.oom_score_adj, message.cwd, message.env) == (
        True,
        -998,
        "/work",
        ["A=1"],
    )
    assert (message.apparmor_profile, message.selinux_label) == ("", "")


def test_limits_of_devices_pids_and_io_stay_and_cpu_sets_of_the_host_go():
    message = guest_resources(
        oci.Resources(
            devices=[oci.DeviceRule(False, access="rwm"), oci.DeviceRule(True, "c", 1, 3, "rw")],
            memory=oci.Memory(limit=1 << 20, swap=-1),
            cpu=oci.Cpu(shares=512, quota=-1, period=100000, cpus="0-3", mems="0"),
            pids=oci.Pids(limit=10),
            block_io=oci.BlockIo(weight=100),
        )
    )
    assert [(rule.allow, rule.major, rule.minor) for rule in message.devices] == [(False, -1, -1), (True, 1, 3)]
    assert message.memory == agent_pb.LinuxMemory(limit=1 << 20, swap=-1)
    assert message.cpu == agent_pb.LinuxCpu(shares=512, quota=-1, period=100000)
    assert message.pids == agent_pb.LinuxPids(limit=10)
    assert message.block_io == agent_pb.LinuxBlockIo(weight=100)


def test_seccomp_goes_along_only_if_the_guest_is_to_apply_it():
    filter_ = oci.Seccomp(
        "SCMP_ACT_ERRNO",
        architectures=["SCMP_ARCH_X86_64"],
        syscalls=[oci.SeccompSyscall(["read"], "SCMP_ACT_ALLOW", args=[oci.SeccompArg(0, 1, "SCMP_CMP_EQ")])],
    )
    kept = guest_spec("c1", spec(seccomp=filter_), [], seccomp=True)
    dropped = guest_spec("c1", spec(seccomp=filter_), [], seccomp=False)
    assert kept.linux is not None
    assert kept.linux.seccomp is not None
    assert kept.linux.seccomp.syscalls[0].args[0].op == "SCMP_CMP_EQ"
    assert dropped.linux is not None
    assert dropped.linux.seccomp is None


def test_a_root_file_system_outside_of_the_share_is_named():
    message = guest_spec("c1", spec(), [], root="/run/kata-containers/sandbox/rootfs/c1", seccomp=False)
    assert message.root is not None
    assert message.root.path == "/run/kata-containers/sandbox/rootfs/c1"


def test_a_privileged_container_gets_no_character_devices_of_the_host_but_those_that_are_the_same_everywhere():
    null, fuse = oci.Device("/dev/null", "c", 1, 3), oci.Device("/dev/fuse", "c", 10, 229)
    devices = [null, oci.Device("/dev/mem", "c", 1, 1), fuse, oci.Device("/dev/kvm", "u", 10, 232)]
    everything = oci.Resources(devices=[oci.DeviceRule(True, access="rwm")])

    privileged = guest_spec("c1", spec(devices=devices, resources=everything), [], seccomp=False).linux
    other = guest_spec("c1", spec(devices=devices), [], seccomp=False).linux

    assert privileged is not None
    assert [device.path for device in privileged.devices] == ["/dev/fuse"]
    assert other is not None
    assert [device.path for device in other.devices] == ["/dev/mem", "/dev/fuse", "/dev/kvm"]


def test_devices_that_every_runtime_makes_are_left_to_it_and_others_are_usable():
    devices = [oci.Device("/dev/null", "c", 1, 3), oci.Device("/dev/zero", "c", 1, 3), oci.Device("/dev/x", "u", 9, 9)]
    devices.append(oci.Device("/dev/y", "c", 9, 9, file_mode=0o600))

    linux = guest_spec("c1", spec(devices=devices), [], seccomp=False).linux

    assert linux is not None
    told = [(device.path, device.type, device.file_mode) for device in linux.devices]
    assert told == [("/dev/zero", "c", 0o666), ("/dev/x", "c", 0o666), ("/dev/y", "c", 0o600)]


def test_only_hooks_of_the_container_s_namespaces_go_along():
    hook = oci.Hook("/bin/hook", ["hook", "-x"], ["A=1"], 3)
    kinds = ("prestart", "create_runtime", "create_container", "start_container", "poststart", "poststop")
    everything = oci.Spec(oci.Root("rootfs"), hooks=oci.Hooks(**{kind: [hook] for kind in kinds}))
    sent = agent_pb.Hook(path="/bin/hook", args=["hook", "-x"], env=["A=1"], timeout=3)
    hooks = guest_spec("c1", everything, [], seccomp=True).hooks
    assert hooks == agent_pb.Hooks(create_container=[sent], start_container=[sent])
    host_only = oci.Spec(oci.Root("rootfs"), hooks=oci.Hooks(prestart=[hook]))
    assert guest_spec("c1", host_only, [], seccomp=True).hooks is None


def test_what_secures_a_container_in_the_guest_goes_along_and_host_labels_do_not():
    linux = oci.Linux(
        sysctl={"net.core.somaxconn": "512", "kernel.shm_rmid_forced": "1"},
        masked_paths=["/proc/kcore"],
        readonly_paths=["/proc/sys"],
        mount_label="system_u:object_r:container_file_t:s0",
    )
    process = oci.Process(args=["sh"], apparmor_profile="cri-containerd", selinux_label="system_u:system_r:x_t:s0")
    message = guest_spec("c1", oci.Spec(oci.Root("rootfs"), process=process, linux=linux), [], seccomp=True)
    assert message.linux is not None
    assert message.process is not None
    assert message.linux.sysctl == linux.sysctl
    assert (message.linux.masked_paths, message.linux.readonly_paths) == (["/proc/kcore"], ["/proc/sys"])
    assert (message.linux.mount_label, message.process.apparmor_profile, message.process.selinux_label) == ("", "", "")
