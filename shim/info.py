"""`-info`: what this runtime is and can do, as a `containerd.types.RuntimeInfo` (containerd 2.0 and later).

Only what is true is told: containerd sends a pod what is announced here. User namespaces and recursive read-only
mounts are not announced, nor any mount type that containerd would otherwise mount itself.
"""

from __future__ import annotations

from shim.version import RUNTIME_NAME, VERSION

#: Type of the features, an OCI runtime-spec `Features` document as JSON.
FEATURES_TYPE = "types.containerd.io/opencontainers/runtime-spec/1/features/Features"

_NAMESPACES = ("cgroup", "ipc", "mount", "network", "pid", "uts")
_HOOKS = ("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop")
#: Annotations that choose what runs on the host, so that whoever admits pods may want to see them first.
_UNSAFE_ANNOTATIONS = ("io.katacontainers.config.",)
#: What the guest's kernel knows (Linux 5.9 and later).
_CAPABILITIES = """
    AUDIT_CONTROL AUDIT_READ AUDIT_WRITE BLOCK_SUSPEND BPF CHECKPOINT_RESTORE CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER
    FSETID IPC_LOCK IPC_OWNER KILL LEASE LINUX_IMMUTABLE MAC_ADMIN MAC_OVERRIDE MKNOD NET_ADMIN NET_BIND_SERVICE
    NET_BROADCAST NET_RAW PERFMON SETFCAP SETGID SETPCAP SETUID SYSLOG SYS_ADMIN SYS_BOOT SYS_CHROOT SYS_MODULE SYS_NICE
    SYS_PACCT SYS_PTRACE SYS_RAWIO SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG WAKE_ALARM
"""
_MOUNT_OPTIONS = """
    async atime bind dev diratime dirsync exec iversion lazytime loud mand noatime nodev nodiratime noexec noiversion
    nolazytime nomand norelatime nostrictatime nosuid private rbind relatime remount ro rprivate rshared rslave
    runbindable rw shared silent slave strictatime suid sync unbindable
"""


def run() -> bytes:
    """The serialized `RuntimeInfo`."""
    from protos.lean.gen.containerd_types import RuntimeInfo, RuntimeVersion
    from protos.lean.gen.wellknown import Any

    info = RuntimeInfo(
        name=RUNTIME_NAME,
        version=RuntimeVersion(version=VERSION),
        features=Any(type_url=FEATURES_TYPE, value=features_json()),
    )
    return info.SerializeToString()


def features_json() -> bytes:
    """The OCI features document."""
    import json

    document = {
        "ociVersionMin": "1.0.0",
        "ociVersionMax": "1.1.0",
        "hooks": _HOOKS,
        "mountOptions": _MOUNT_OPTIONS.split(),
        "linux": {
            "namespaces": _NAMESPACES,
            "capabilities": [f"CAP_{name}" for name in _CAPABILITIES.split()],
            # The guest's: what the host has does not matter to a container.
            "cgroup": {"v1": False, "v2": True, "systemd": False, "systemdUser": False, "rdma": False},
            "apparmor": {"enabled": False},
            "selinux": {"enabled": False},
            "intelRdt": {"enabled": False},
            "mountExtensions": {"idmap": {"enabled": False}},
        },
        "potentiallyUnsafeConfigAnnotations": _UNSAFE_ANNOTATIONS,
    }
    return json.dumps(document, separators=(",", ":")).encode()
