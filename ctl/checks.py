"""`kata-ctl check`: what this host has of what pods need, a line each."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from config import Config, ConfigError, check_paths, load
from hypervisor import accelerator
from hypervisor.errors import HypervisorError

#: Seconds that a program has to tell its version.
VERSION_TIMEOUT = 20.0
_CGROUPS = Path("/sys/fs/cgroup")
_MOUNTS = Path("/proc/self/mountinfo")


class Level(StrEnum):
    """What a finding means for pods."""

    FITS = "ok"
    #: Pods run, slower or with less.
    LESS = "note"
    #: Pods can't run so.
    FAILS = "FAIL"


@dataclass(frozen=True)
class Finding:
    """One line."""

    level: Level
    subject: str
    text: str

    def __str__(self) -> str:
        return f"{self.level:<4}  {self.subject:<13}  {self.text}"


def findings(file: Path | None = None) -> Iterator[Finding]:
    """All findings for the configuration in `file`, or in the host's own."""
    settings: Config | None = None
    try:
        settings = load(file)
        yield from _configuration(settings)
    except ConfigError as error:
        yield Finding(Level.FAILS, "configuration", str(error))
    yield _user(os.geteuid())
    yield _kvm(settings.hypervisor.accelerator if settings else "auto")
    yield _device("vhost-vsock", Path("/dev/vhost-vsock"), "the agent is reached over a virtio-serial port")
    yield _device("vhost-net", Path("/dev/vhost-net"), "QEMU itself carries the network's packets")
    if settings is not None:
        yield _program("qemu", settings.hypervisor.path, "--version")
        if settings.hypervisor.shared_fs == "virtio-fs":
            yield _program("virtiofsd", settings.hypervisor.virtio_fs_daemon, "--version")
    yield _found("setpriv")
    yield cgroup_mode(_CGROUPS)
    yield mount_propagation(_MOUNTS.read_text())


def _configuration(settings: Config) -> Iterator[Finding]:
    """Raises `ConfigError` for what it names and is not there."""
    check_paths(settings)
    yield Finding(Level.FITS, "configuration", f"{settings.source} is valid, and what it names is there")
    if settings.ignored:
        text = f"{len(settings.ignored)} keys have no effect: kata-ctl config check lists them"
        yield Finding(Level.LESS, "configuration", text)


def _user(uid: int) -> Finding:
    if uid == 0:
        return Finding(Level.FITS, "user", "root")
    return Finding(Level.FAILS, "user", f"uid {uid}: containerd and its shims run as root")


def _kvm(wanted: str, resolve: Callable[[str], accelerator.Accelerator] = accelerator.resolve) -> Finding:
    try:
        chosen = resolve(wanted)
    except HypervisorError as error:
        return Finding(Level.FAILS, "kvm", str(error))
    if chosen.name == "kvm":
        return Finding(Level.FITS, "kvm", chosen.reason)
    return Finding(Level.LESS, "kvm", f"{chosen.reason}; guests are emulated (TCG), which is many times slower")


def _device(subject: str, path: Path, otherwise: str) -> Finding:
    if os.access(path, os.R_OK | os.W_OK):
        return Finding(Level.FITS, subject, f"{path} can be opened")
    return Finding(Level.LESS, subject, f"{path} can't be opened: {otherwise}")


def _program(subject: str, path: Path, option: str) -> Finding:
    """The first line of what the program says of its version."""
    try:
        done = subprocess.run([str(path), option], capture_output=True, timeout=VERSION_TIMEOUT, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        return Finding(Level.FAILS, subject, f"{path} does not run: {error}")
    lines = (done.stdout or done.stderr).decode(errors="replace").splitlines()
    return Finding(Level.FITS, subject, f"{path}: {lines[0][:200] if lines else 'no version'}")


def _found(program: str) -> Finding:
    path = shutil.which(program)
    if path:
        return Finding(Level.FITS, program, path)
    return Finding(Level.FAILS, program, "not found: it is in Debian's util-linux")


def cgroup_mode(root: Path) -> Finding:
    """Which cgroup hierarchies the host has."""
    if (root / "cgroup.controllers").exists():
        return Finding(Level.FITS, "cgroups", f"version 2 (unified) in {root}")
    if (root / "unified" / "cgroup.controllers").exists():
        return Finding(Level.FITS, "cgroups", f"version 1, with version 2 beside it (hybrid) in {root}")
    if (root / "memory").is_dir():
        return Finding(Level.FITS, "cgroups", f"version 1 in {root}")
    return Finding(Level.FAILS, "cgroups", f"no cgroups in {root}")


def mount_propagation(mountinfo: str) -> Finding:
    """Whether pods see what the host mounts after their start, by the text of /proc/PID/mountinfo (proc(5))."""
    roots = [fields for fields in map(str.split, mountinfo.splitlines()) if fields[4] == "/"]
    tags = roots[-1][6 : roots[-1].index("-")] if roots else []
    if any(tag.startswith("shared:") for tag in tags):
        return Finding(Level.FITS, "mounts", "shared: pods see what the host mounts after their start")
    text = "/ is not shared (mount --make-rshared /): pods see nothing of what the host mounts after their start"
    return Finding(Level.LESS, "mounts", text)
