"""The OCI spec as the guest gets it: pure translation to the messages of Kata's agent protocol.

What names the host is taken out: namespace paths, the network namespace, CPU sets, labels of the host's security
modules, the hooks that run on the host. What limits the container stays, devices, pids and io included, and holds in
the guest.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from protos.gen import grpc as agent_pb
from sandbox import guest_paths
from sandbox.annotations import ContainerKind
from sandbox.oci import Hook, Hooks, Process, Resources, Seccomp, Spec, SpecMount
from sandbox.storage.devices import may_all

#: Kinds of namespaces that the guest decides about itself: one network for the VM, and a clock of its own.
OWN_DROPPED = frozenset({"network", "time", "user"})
#: Kata's agent adds the pid namespace to the spec, a second time if it is there; its runtime never sends cgroup's.
KATA_DROPPED = OWN_DROPPED | {"cgroup", "pid"}
#: What Kata's runtimes say of a container in every spec.
_KIND, _BUNDLE = "io.katacontainers.pkg.oci.container_type", "io.katacontainers.pkg.oci.bundle_path"
_KINDS = {
    ContainerKind.SANDBOX: "pod_sandbox",
    ContainerKind.CONTAINER: "pod_container",
    ContainerKind.SINGLE: "single_container",
}
#: Devices of the host by their names there (CDI), for which Kata's agent would wait in the guest.
_HOST_DEVICES = "cdi.k8s.io/"
_ANY_DEVICE = -1
#: What every runtime makes by itself (runtime-spec, "Default Devices"), and Kata's agent fails to make twice.
_DEFAULTS = {
    "/dev/null": (1, 3),
    "/dev/zero": (1, 5),
    "/dev/full": (1, 7),
    "/dev/random": (1, 8),
    "/dev/urandom": (1, 9),
    "/dev/tty": (5, 0),
}
#: The mode of a node whose spec names none, as with other runtimes: 0 would let root alone use it.
_NODE_MODE = 0o666
#: Kernel's devices.txt: null, zero, full, random, urandom; tty, console, ptmx; net/tun, fuse.
_SAME_EVERYWHERE = frozenset({(1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 1), (5, 2), (10, 200), (10, 229)})


def guest_spec(
    container_id: str,
    spec: Spec,
    mounts: Sequence[SpecMount],
    *,
    seccomp: bool,
    kind: ContainerKind = ContainerKind.SINGLE,
    bundle: Path = Path("/"),
    root: str | None = None,
    dropped_namespaces: frozenset[str] = OWN_DROPPED,
) -> agent_pb.Spec:
    """The spec to send with `CreateContainer`; `mounts` are guest mounts, `seccomp` says whether the filter goes along.

    `root` is the root file system's place in the guest, unless it is in the share. Block devices still have the host's
    numbers: the guest replaces those of the disks that are named in the same request.
    """
    return agent_pb.Spec(
        version=spec.oci_version,
        process=guest_process(spec.process) if spec.process else None,
        root=agent_pb.Root(path=root or guest_paths.rootfs(container_id), readonly=spec.root.readonly),
        hostname=spec.hostname,
        mounts=[_mount(item) for item in mounts],
        hooks=_hooks(spec.hooks) if spec.hooks else None,
        annotations=_annotations(spec, kind, bundle),
        linux=_linux(spec, seccomp, dropped_namespaces),
    )


def _annotations(spec: Spec, kind: ContainerKind, bundle: Path) -> dict[str, str]:
    """Never none: Kata 3's agent panics at a spec without any, for its own runtimes always send these two."""
    kept = {key: value for key, value in spec.annotations.items() if not key.startswith(_HOST_DEVICES)}
    return {**kept, _KIND: _KINDS[kind], _BUNDLE: str(bundle)}


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


def _hooks(hooks: Hooks) -> agent_pb.Hooks | None:
    """Those that run in the container's namespaces, so in the guest; their programs are the guest's."""
    if not hooks.create_container and not hooks.start_container:
        return None
    return agent_pb.Hooks(
        create_container=[_hook(item) for item in hooks.create_container],
        start_container=[_hook(item) for item in hooks.start_container],
    )


def _hook(hook: Hook) -> agent_pb.Hook:
    return agent_pb.Hook(path=hook.path, args=list(hook.args), env=list(hook.env), timeout=hook.timeout or 0)


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
    """The device nodes to make. A character device of the host does not come along: its number is the guest's device.

    containerd lists all of the host's for a privileged container, unless `privileged_without_host_devices` is set; of
    those only the numbers stay that mean the same on every Linux, and hold nothing of the machine.
    """
    is_privileged = may_all(spec)
    return [
        agent_pb.LinuxDevice(
            path=device.path,
            # Two names of the same (runtime-spec, "Devices"), of which Kata's agent knows one.
            type="c" if device.type == "u" else device.type,
            major=device.major,
            minor=device.minor,
            file_mode=_NODE_MODE if device.file_mode is None else device.file_mode,
            uid=device.uid or 0,
            gid=device.gid or 0,
        )
        for device in spec.linux.devices
        if not (is_privileged and device.type in "cu" and (device.major, device.minor) not in _SAME_EVERYWHERE)
        and _DEFAULTS.get(device.path) != (device.major, device.minor)
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
        unified=dict(resources.unified),
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
