"""The OCI spec as the guest gets it: pure translation to the messages of Kata's agent protocol.

What names the host is taken out: namespace paths, the network namespace, CPU sets, labels of the host's security
modules, hooks of the host. What limits the container stays, devices, pids and io included, and holds in the guest.
"""

from __future__ import annotations

from collections.abc import Sequence

from protos.gen import grpc as agent_pb
from sandbox import guest_paths
from sandbox.errors import UnimplementedError
from sandbox.oci import Process, Resources, Seccomp, Spec, SpecMount

#: Kinds of namespaces that the guest decides about itself: one network for the VM, and a clock of its own.
OWN_DROPPED = frozenset({"network", "time", "user"})
#: Kata's agent adds the pid namespace to the spec, a second time if it is there; its runtime never sends cgroup's.
KATA_DROPPED = OWN_DROPPED | {"cgroup", "pid"}
_ANY_DEVICE = -1


def guest_spec(
    container_id: str,
    spec: Spec,
    mounts: Sequence[SpecMount],
    *,
    seccomp: bool,
    dropped_namespaces: frozenset[str] = OWN_DROPPED,
) -> agent_pb.Spec:
    """The spec to send with `CreateContainer`; `mounts` are guest mounts, `seccomp` says whether the filter goes along.

    Raises `UnimplementedError` for a host block device among the devices: its number means another disk in the guest.
    """
    return agent_pb.Spec(
        version=spec.oci_version,
        process=guest_process(spec.process) if spec.process else None,
        root=agent_pb.Root(path=guest_paths.rootfs(container_id), readonly=spec.root.readonly),
        hostname=spec.hostname,
        mounts=[_mount(item) for item in mounts],
        annotations=dict(spec.annotations),
        linux=_linux(spec, seccomp, dropped_namespaces),
    )


def guest_process(process: Process) -> agent_pb.Process:
    """A process with all it asks for; labels of the host's AppArmor and SELinux policies are not known to the guest."""
    size = process.console_size
    return agent_pb.Process(
        terminal=process.terminal,
        console_size=agent_pb.Box(height=size.height, width=size.width) if size else None,
        user=agent_pb.User(
            uid=process.user.uid,
            gid=process.user.gid,
            additional_gids=list(process.user.additional_gids),
            username=process.user.username,
        ),
        args=list(process.args),
        env=list(process.env),
        cwd=process.cwd,
        capabilities=_capabilities(process),
        rlimits=[agent_pb.PosixRlimit(type=item.type, hard=item.hard, soft=item.soft) for item in process.rlimits],
        no_new_privileges=process.no_new_privileges,
        oom_score_adj=process.oom_score_adj or 0,
    )


def _capabilities(process: Process) -> agent_pb.LinuxCapabilities | None:
    sets = process.capabilities
    if sets is None:
        return None
    return agent_pb.LinuxCapabilities(
        bounding=list(sets.bounding),
        effective=list(sets.effective),
        inheritable=list(sets.inheritable),
        permitted=list(sets.permitted),
        ambient=list(sets.ambient),
    )


def _mount(item: SpecMount) -> agent_pb.Mount:
    return agent_pb.Mount(destination=item.destination, source=item.source, type=item.type, options=list(item.options))


def _linux(spec: Spec, seccomp: bool, dropped_namespaces: frozenset[str]) -> agent_pb.Linux:
    linux = spec.linux
    return agent_pb.Linux(
        sysctl=dict(linux.sysctl),
        resources=guest_resources(linux.resources) if linux.resources else None,
        cgroups_path=linux.cgroups_path,
        namespaces=[
            agent_pb.LinuxNamespace(type=item.type) for item in linux.namespaces if item.type not in dropped_namespaces
        ],
        devices=_devices(spec),
        seccomp=_seccomp(linux.seccomp) if linux.seccomp and seccomp else None,
        rootfs_propagation=linux.rootfs_propagation,
        masked_paths=list(linux.masked_paths),
        readonly_paths=list(linux.readonly_paths),
    )


def _devices(spec: Spec) -> list[agent_pb.LinuxDevice]:
    for device in spec.linux.devices:
        if device.type == "b":
            raise UnimplementedError(
                f"device {device.path}: block devices of the host cannot be passed to a container yet"
            )
    return [
        agent_pb.LinuxDevice(
            path=device.path,
            type=device.type,
            major=device.major,
            minor=device.minor,
            file_mode=device.file_mode or 0,
            uid=device.uid or 0,
            gid=device.gid or 0,
        )
        for device in spec.linux.devices
    ]


def guest_resources(resources: Resources) -> agent_pb.LinuxResources:
    """Limits for the guest. CPU sets number the host's processors, so they stay behind; absent numbers become 0, which
    the protocol reads as "not set".
    """
    memory, cpu, block = resources.memory, resources.cpu, resources.block_io
    return agent_pb.LinuxResources(
        devices=[
            agent_pb.LinuxDeviceCgroup(
                allow=rule.allow,
                type=rule.type,
                major=_ANY_DEVICE if rule.major is None else rule.major,
                minor=_ANY_DEVICE if rule.minor is None else rule.minor,
                access=rule.access,
            )
            for rule in resources.devices
        ],
        memory=agent_pb.LinuxMemory(
            limit=memory.limit or 0,
            reservation=memory.reservation or 0,
            swap=memory.swap or 0,
            swappiness=memory.swappiness or 0,
            disable_oom_killer=memory.disable_oom_killer,
        )
        if memory
        else None,
        cpu=agent_pb.LinuxCpu(
            shares=cpu.shares or 0,
            quota=cpu.quota or 0,
            period=cpu.period or 0,
            realtime_runtime=cpu.realtime_runtime or 0,
            realtime_period=cpu.realtime_period or 0,
        )
        if cpu
        else None,
        pids=agent_pb.LinuxPids(limit=resources.pids.limit) if resources.pids else None,
        block_io=agent_pb.LinuxBlockIo(weight=block.weight or 0, leaf_weight=block.leaf_weight or 0) if block else None,
        hugepage_limits=[
            agent_pb.LinuxHugepageLimit(pagesize=item.page_size, limit=item.limit) for item in resources.hugepage_limits
        ],
    )


def _seccomp(filter_: Seccomp) -> agent_pb.LinuxSeccomp:
    return agent_pb.LinuxSeccomp(
        default_action=filter_.default_action,
        architectures=list(filter_.architectures),
        flags=list(filter_.flags),
        syscalls=[
            agent_pb.LinuxSyscall(
                names=list(call.names),
                action=call.action,
                errnoret=call.errno_ret,
                args=[
                    agent_pb.LinuxSeccompArg(index=arg.index, value=arg.value, value_two=arg.value_two, op=arg.op)
                    for arg in call.args
                ],
            )
            for call in filter_.syscalls
        ],
    )
