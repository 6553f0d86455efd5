"""`-info`: what this runtime is and can do, as a `containerd.types.RuntimeInfo` (containerd 2.0 and later).

Only what is true is told: containerd sends a pod what is announced here. User namespaces and recursive read-only
mounts are not announced, nor any mount type that containerd would otherwise mount itself.
"""

from __future__ import annotations

from shim.version import RUNTIME_NAME, VERSION

#: Type of the features, an OCI runtime-spec `Features` document as JSON.
FEATURES_TYPE = "types.containerd.io/opencontainers/runtime-spec/1/features/Features"

_NAMESPACES = ("cgroup", "ipc", "mount", "network", "pid", "uts")
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
        "mountOptions": _MOUNT_OPTIONS.split(),
        "linux": {"namespaces": _NAMESPACES},
    }
    return json.dumps(document, separators=(",", ":")).encode()
