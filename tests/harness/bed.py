"""A bed: a private containerd with images and a pod network, and the machine as it was when it is gone."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.harness import cni, paths
from tests.harness.command import CommandError, run
from tests.harness.containerd import Containerd
from tests.harness.containerd_config import ContainerdPaths, render
from tests.harness.containerd_version import program, release, sandboxer, search_path
from tests.harness.covered import DATA_VARIABLE, SETTINGS_VARIABLE, launcher_text
from tests.harness.ctr import Ctr
from tests.harness.images import BUSYBOX, PAUSE, standard_archive
from tests.harness.inventory import STANDING, STANDING_CGROUPS, Scope
from tests.harness.leaks import LeakCheck
from tests.harness.runtimes import KATA, Runtime

#: Namespaces the images are imported into: ctr's and CRI's.
NAMESPACES = ("default", "k8s.io")


#: Prefix of the abstract sockets by which beds know of each other.
_LOCK = "kata-bed:"


class BedError(Exception):
    """The bed can't be made here; one line that says why."""


@dataclass(frozen=True)
class Bed:
    """A running bed; made and ended by `open_bed`."""

    directory: Path
    containerd: Containerd
    network: cni.PodNetwork
    runtime: Runtime
    #: What the kata runtime reads, under ctr and under CRI.
    configuration: Path

    @property
    def socket(self) -> Path:
        """containerd's gRPC socket."""
        return self.containerd.socket

    @property
    def pod_logs(self) -> Path:
        """Parent of the log directories of pods."""
        return self.directory / "pod-logs"

    def ctr(self, namespace: str = "default") -> Ctr:
        """A ctr for this containerd, whose `run` uses the bed's runtime."""
        return Ctr(self.socket, self.runtime, namespace, self.configuration if self.runtime is KATA else None)

    def scope(self) -> Scope:
        """Where this bed may leave something."""
        expected = frozenset({self.containerd.pid}) if self.containerd.pid else frozenset[int]()
        alone = not other_beds(self.directory)
        return Scope((self.containerd.reaper_pid,), expected, self.directory, self.network.bridge, alone)

    def leak_check(self) -> LeakCheck:
        """A check that compares later moments with this one."""
        return LeakCheck(self.scope)


@contextmanager
def open_bed(
    name: str,
    runtime: Runtime = KATA,
    configuration: Path = paths.CONFIGURATION,
    debug: bool = False,
    covered: bool = False,
) -> Iterator[Bed]:
    """A bed below `build/bed/<name>` whose kata handler uses `configuration`; ends with everything it ran.

    A `covered` one records the coverage of its shims next to `COVERAGE_FILE`. `containerd.log` stays for a
    person to read. Raises `BedError` if a bed of that name is in use, or can't be made.
    """
    directory = paths.BEDS / name
    with ExitStack() as stack:
        stack.enter_context(_exclusive(directory))
        remove_leftovers(directory)
        standing = {path for path in STANDING if path.exists()}
        stack.callback(_remove_standing, standing)
        forwarding = cni.ForwardingGuard()
        stack.callback(forwarding.restore)
        ports = cni.PortChainsGuard()
        stack.callback(ports.restore)
        network = cni.PodNetwork.for_bed(directory)
        stack.callback(network.remove)
        stack.callback(remove_leftovers, directory)
        containerd = _make_containerd(directory, network, configuration, debug, covered)
        stack.callback(containerd.close)
        containerd.start()
        bed = Bed(directory, containerd, network, runtime, configuration)
        archive = standard_archive(paths.IMAGES)
        for namespace in NAMESPACES:
            bed.ctr(namespace).import_archive(archive)
        yield bed


def _make_containerd(
    directory: Path, network: cni.PodNetwork, configuration: Path, debug: bool, covered: bool
) -> Containerd:
    private = ContainerdPaths(
        root=directory / "root",
        state=directory / "state",
        socket=paths.socket_path(directory, "c.sock"),
        cni_conf=directory / "cni" / "net.d",
        opt=directory / "opt",
    )
    network.write(private.cni_conf, directory / "cni" / "leases")
    text = render(
        private,
        pause_image=PAUSE,
        kata_config=configuration,
        cni_bin=cni.PLUGINS,
        seccomp_config=_with_seccomp(configuration, directory / "kata-seccomp"),
        debug=debug,
        release=release(),
        sandboxer=sandboxer(),
    )
    config = directory / "config.toml"
    config.write_text(text)
    log = directory / "containerd.log"
    log.unlink(missing_ok=True)
    programs = _covered_shim(directory) if covered else paths.PREFIX / "bin"
    path = search_path(programs, "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
    return Containerd(config, private.socket, log, path, _coverage_environment() if covered else {})


def _with_seccomp(configuration: Path, directory: Path) -> Path:
    """A copy in `directory` of a configuration, by which guests apply the containers' seccomp profiles."""
    copy = directory / "configuration.toml"
    drop_ins = directory / "config.d"
    drop_ins.mkdir(parents=True)
    copy.write_text(configuration.read_text())
    (drop_ins / "50-seccomp.toml").write_text("[runtime]\ndisable_guest_seccomp = false\n")
    return copy


def _covered_shim(directory: Path) -> Path:
    """A directory with a launcher like the private installation's, whose shims record their coverage."""
    launcher = directory / "bin" / paths.SHIM.name
    launcher.parent.mkdir()
    launcher.write_text(launcher_text(str(paths.BUILD / "venv" / "bin" / "python"), str(paths.PROJECT)))
    launcher.chmod(0o755)
    return launcher.parent


def _coverage_environment() -> dict[str, str]:
    return {
        DATA_VARIABLE: os.environ["COVERAGE_FILE"],
        SETTINGS_VARIABLE: str(paths.PROJECT / "pyproject.toml"),
    }


@contextmanager
def _exclusive(directory: Path) -> Iterator[None]:
    """Hold the bed: an abstract UNIX socket named after it, which goes with this process and which all beds see."""
    directory.mkdir(parents=True, exist_ok=True)
    with socket.socket(socket.AF_UNIX) as lock:
        try:
            lock.bind(f"\0{_LOCK}{directory}")
        except OSError as error:
            raise BedError(f"{directory} is in use by another run: wait for it, or end it") from error
        yield


def other_beds(directory: Path) -> list[str]:
    """The beds beside the one in `directory` that are in use on this machine now, of this project or another copy."""
    names = (line.partition(f"@{_LOCK}")[2] for line in Path("/proc/net/unix").read_text().splitlines())
    return sorted(name for name in names if name and name != str(directory))


def remove_leftovers(directory: Path) -> None:
    """Unmount and remove what an earlier bed, perhaps a killed one, left in `directory`; log and configuration stay."""
    mounts = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    for mount in sorted((one for one in mounts if Path(one).is_relative_to(directory)), reverse=True):
        run("umount", "--lazy", mount, timeout=10)
    for entry in directory.iterdir():
        if entry.name in ("containerd.log", "config.toml"):
            continue
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()


def _remove_standing(before: set[Path]) -> None:
    """Remove the standing directories that were not there before and are empty."""
    for path in sorted(STANDING - before, reverse=True):
        _remove_empty(path)
    for cgroup in STANDING_CGROUPS:
        for path in Path("/sys/fs/cgroup").glob(f"*{cgroup}"):
            _remove_empty(path)


def _remove_empty(directory: Path) -> None:
    try:
        directory.rmdir()
    except OSError:
        # Not empty: another containerd's, and so is what is above it.
        return


def missing_here() -> str | None:
    """One line about what a bed needs and this machine lacks; None if nothing."""
    if os.geteuid():
        return "root is needed to run containerd: use sudo"
    for needed in (program("containerd"), program("ctr"), "runc", "ip", "iptables", "tc"):
        if shutil.which(needed) is None:
            return f"{needed} is missing: run make setup"
    if not cni.PLUGINS.is_dir():
        return f"{cni.PLUGINS} is missing: run make setup"
    try:
        run("ip", "-json", "link", "show", timeout=10).check()
    except CommandError as error:
        return str(error)
    return None


__all__ = ["BUSYBOX", "PAUSE", "Bed", "BedError", "missing_here", "open_bed"]
