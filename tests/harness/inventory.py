"""What a pod may leave on a machine, at one moment: processes, mounts, network, sockets, cgroups, files.

Each source is a function from a `Scope` to a mapping of keys (that make an item unique) to descriptions (for a person).
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.harness import processes
from tests.harness.command import run

#: Directories that stay when their last entry goes: made by containerd, ctr, runc, iproute2 and the shim for all pods.
STANDING = frozenset(
    Path(path)
    for path in (
        "/run/containerd",
        "/run/containerd/s",
        "/run/containerd/fifo",
        "/run/containerd/runc",
        "/run/containerd/runc/default",
        "/run/containerd/runc/k8s.io",
        "/run/kata",
        "/run/kata-containers",
        "/run/kata-containers/shared",
        "/run/kata-containers/shared/sandboxes",
        "/run/netns",
        "/var/lib/cni",
        "/var/lib/cni/results",
        "/var/lib/cni/networks",
    )
)

#: The parents that containerd's runtimes leave standing when empty: one for each namespace.
STANDING_CGROUPS = ("/default", "/k8s.io")

#: Below /run, but other programs' business.
_FOREIGN_RUN = (
    "dbus",
    "lock",
    "log",
    "mount",
    "systemd",
    "udev",
    "user",
    "postgresql",
    "sendsigs.omit.d",
    "netns",
    "shm",
)

#: Cgroups that the distribution's init manages.
_FOREIGN_CGROUPS = ("system.slice", "user.slice", "init.scope", "process_api")

_TEMPORARY = re.compile(r"kata|qemu|virtiofs|containerd|ctr-|runc", re.IGNORECASE)
_DEFAULT_QDISCS = frozenset({"noqueue", "fq_codel", "pfifo_fast", "mq", "fq"})


@dataclass(frozen=True)
class Scope:
    """Where to look: the roots of process trees, pids that belong there, the directory and the bridge of the bed.

    `alone` tells whether nobody else runs pods on this machine: where all pods leave their things side by side, a new
    thing can only be judged if that is so.
    """

    roots: tuple[int, ...] = ()
    expected: frozenset[int] = frozenset()
    bed: Path | None = None
    bridge: str = ""
    alone: bool = True


def process_items(scope: Scope) -> dict[str, str]:
    """Every process below the roots, and the orphans of the whole machine that name the bed."""
    table = processes.process_table()
    below = processes.descendants((os.getpid(), *scope.roots), table)
    orphans = [one for one in table.values() if one.parent == 1 and scope.bed and f"{scope.bed}/" in one.command]
    unexpected = {one for one in (*below, *orphans) if one.pid not in scope.expected and one.pid not in scope.roots}
    return {f"{one.pid}@{one.start_time}": str(one) for one in unexpected}


def mount_items(scope: Scope) -> dict[str, str]:
    """Mounts of this mount namespace, except those of package builds and of other beds."""
    items = {}
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields = line.split()
        where = Path(fields[4].encode().decode("unicode_escape"))
        kind, source = fields[fields.index("-") + 1 :][:2]
        if not _is_foreign_mount(where, scope):
            items[f"{fields[0]} {where}"] = f"{where} ({kind} of {source})"
    return items


def _is_foreign_mount(where: Path, scope: Scope) -> bool:
    if _is_of_another_bed(where, scope):
        return True
    if scope.bed is not None and where.is_relative_to(scope.bed):
        return False
    # Handles of network namespaces are an inventory of their own, for they don't tell which bed they belong to.
    is_handle = where.is_relative_to("/run/netns")
    return is_handle or (where.is_relative_to("/tmp") and not _TEMPORARY.search(str(where)))


def _is_of_another_bed(path: Path, scope: Scope) -> bool:
    return scope.bed is not None and path.is_relative_to(scope.bed.parent) and not path.is_relative_to(scope.bed)


def link_items(scope: Scope) -> dict[str, str]:
    """Network interfaces of this namespace (taps, veth ends, ...), except bridges of beds and what other beds' hold."""
    items = {}
    for link in _ip_json("link", "show"):
        name, master = str(link["ifname"]), str(link.get("master", ""))
        if name != scope.bridge and (not master or master == scope.bridge) and not _is_bed_bridge(name):
            items[f"{link['ifindex']} {name}"] = f"{name} (master {master})" if master else name
    return items


def _is_bed_bridge(name: str) -> bool:
    return re.fullmatch(r"kt-[0-9a-f]{8}", name) is not None


def qdisc_items(scope: Scope) -> dict[str, str]:
    """Queueing disciplines that somebody put onto an interface of this namespace."""
    done = run("tc", "-json", "qdisc", "show", timeout=10).check()
    rows = json.loads(done.stdout or b"[]")
    return {
        f"{row['dev']} {row['kind']} {row['handle']}": f"{row['kind']} on {row['dev']}"
        for row in rows
        if row["kind"] not in _DEFAULT_QDISCS
    }


def _ip_json(*arguments: str) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = json.loads(run("ip", "-json", *arguments, timeout=10).check().stdout or b"[]")
    return rows


def netns_items(scope: Scope) -> dict[str, str]:
    """Handles of network namespaces."""
    return {str(path): str(path) for path in _entries(Path("/run/netns"))}


def namespace_items(scope: Scope) -> dict[str, str]:
    """What a VM's network may leave in the namespaces that have a handle: taps, macvtaps, queueing disciplines."""
    items = {}
    for name in (path.name for path in _entries(Path("/run/netns"))):
        # One that goes meanwhile has nothing.
        links = json.loads(run("ip", "-n", name, "-json", "link", "show", timeout=10).stdout or b"[]")
        qdiscs = json.loads(run("tc", "-n", name, "-json", "qdisc", "show", timeout=10).stdout or b"[]")
        found = [link["ifname"] for link in links if link.get("ifname", "").endswith("_kata")]
        found += [f"{row['kind']} on {row['dev']}" for row in qdiscs if row["kind"] not in _DEFAULT_QDISCS]
        items.update({f"{name} {one}": f"{one} in network namespace {name}" for one in found})
    return items


def cgroup_items(scope: Scope) -> dict[str, str]:
    """Cgroups of all hierarchies, v1 and v2, that the init system does not manage; one item for all hierarchies."""
    top = Path("/sys/fs/cgroup")
    unified = (top / "cgroup.controllers").exists()
    hierarchies = [top] if unified else [path for path in _entries(top) if path.is_dir() and not path.is_symlink()]
    found: dict[str, list[str]] = {}
    for hierarchy in hierarchies:
        for path in _directories(hierarchy, _FOREIGN_CGROUPS):
            found.setdefault(f"/{path.relative_to(hierarchy)}", []).append(hierarchy.name)
    return {path: f"{path} ({', '.join(names)})" for path, names in found.items() if path not in STANDING_CGROUPS}


def socket_items(scope: Scope) -> dict[str, str]:
    """Bound UNIX sockets that belong to pods: shims, VMs and helpers."""
    items = {}
    for line in Path("/proc/net/unix").read_text().splitlines()[1:]:
        fields = line.split(maxsplit=7)
        path = fields[7] if len(fields) == 8 else ""
        if path.startswith(("/run/containerd/s/", "/run/kata", "/run/vc/", "@containerd-shim")):
            items[path] = path
    return items


def file_items(scope: Scope) -> dict[str, str]:
    """Files below /run, in /dev/shm, CNI's state, and what in /tmp is named like one of our programs."""
    roots = [path for path in _entries(Path("/run")) if path.name not in _FOREIGN_RUN]
    roots += _entries(Path("/dev/shm"))
    roots += [path for path in _entries(Path("/tmp")) if _TEMPORARY.search(path.name)]
    found = [path for root in roots for path in (root, *_walk(root))]
    found += list(_walk(Path("/var/lib/cni")))
    return {str(path): str(path) for path in found if path not in STANDING}


def loop_items(scope: Scope) -> dict[str, str]:
    """Loop devices in use, except on files of other beds; one may go while it is looked at."""
    items = {}
    for backing in Path("/sys/block").glob("loop*/loop/backing_file"):
        try:
            file = backing.read_text().strip()
        except OSError:
            continue
        if not _is_of_another_bed(Path(file), scope):
            items[backing.parts[3]] = f"/dev/{backing.parts[3]} of {file}"
    return items


def bundle_items(scope: Scope) -> dict[str, str]:
    """Bundles, CRI directories and address leases in the bed's own containerd."""
    if scope.bed is None:
        return {}
    patterns = (
        "*/io.containerd.runtime.v2.task/*/*",
        "*/io.containerd.sandbox.controller.v1.shim/*/*",
        "*/io.containerd.grpc.v1.cri/sandboxes/*",
        "*/io.containerd.grpc.v1.cri/containers/*",
        "cni/leases/*/[0-9]*",
    )
    return {str(path): str(path) for pattern in patterns for path in scope.bed.glob(pattern)}


def _entries(directory: Path) -> list[Path]:
    try:
        return sorted(directory.iterdir())
    except OSError:
        return []


def _walk(directory: Path) -> Iterator[Path]:
    """Everything below a directory; what vanishes meanwhile is not there."""
    for parent, directories, files in os.walk(directory):
        for name in (*directories, *files):
            yield Path(parent, name)


def _directories(directory: Path, foreign: Iterable[str]) -> Iterator[Path]:
    for parent, directories, _ in os.walk(directory):
        directories[:] = [name for name in directories if name not in foreign]
        for name in directories:
            yield Path(parent, name)


#: All sources, by the plural that a report uses.
SOURCES: Mapping[str, Callable[[Scope], dict[str, str]]] = {
    "processes": process_items,
    "mounts": mount_items,
    "network interfaces": link_items,
    "queueing disciplines": qdisc_items,
    "network namespace handles": netns_items,
    "things in network namespaces": namespace_items,
    "cgroups": cgroup_items,
    "sockets": socket_items,
    "files": file_items,
    "loop devices": loop_items,
    "bundles and leases": bundle_items,
}

#: Kinds whose items don't tell which bed they belong to.
SHARED = frozenset(
    {
        "queueing disciplines",
        "network namespace handles",
        "things in network namespaces",
        "cgroups",
        "sockets",
        "files",
        "network interfaces",
    }
)

Inventory = Mapping[str, Mapping[str, str]]


def take(scope: Scope) -> Inventory:
    """The inventory of this moment; without the `SHARED` kinds if the bed is not alone."""
    return {kind: source(scope) for kind, source in SOURCES.items() if scope.alone or kind not in SHARED}
