"""Containers alone in a VM of their own, as `ctr run` makes them: the machine's size, its end, and its neighbours."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.harness import guest, paths
from tests.harness.bed import Bed
from tests.harness.ctr import Ctr
from tests.integration.system import specs

pytestmark = pytest.mark.integration

MIB = 1 << 20

#: What the guest's kernel and firmware keep of the memory before MemTotal is counted, at most.
KERNEL_SHARE = 0.12

_SIZE = "nproc; sed -n 's/MemTotal: *\\([0-9]*\\) kB/\\1/p' /proc/meminfo"


def _configured(directory: Path, section: str = "hypervisor.qemu", **keys: object) -> Path:
    """A configuration like the installed one, with other values for some keys of a section."""
    path = directory / "configuration.toml"
    path.write_text(paths.CONFIGURATION.read_text())
    (directory / "config.d").mkdir()
    lines = [f"{key} = {value}" for key, value in keys.items()]
    (directory / "config.d" / "10-test.toml").write_text("\n".join([f"[{section}]", *lines, ""]))
    return path


def _assert_size(text: str, vcpus: int, memory_mib: int) -> None:
    seen_vcpus, seen_kib = map(int, text.split())
    assert seen_vcpus == vcpus
    assert memory_mib * (1 - KERNEL_SHARE) < seen_kib / 1024 <= memory_mib


def test_a_container_runs_on_a_kernel_of_its_own_with_the_configured_size(
    bed: Bed, nothing_left: None, tmp_path: Path
) -> None:
    ctr = Ctr(bed.socket, bed.runtime, configuration=_configured(tmp_path, default_vcpus=2, default_memory=640))

    done = ctr.run("sized", "sh", "-c", f"uname -r; hostname; {_SIZE}; exit 3")

    kernel, name, size = done.text.split("\n", 2)
    assert done.returncode == 3
    assert kernel != guest.host_kernel()
    assert name == "localhost"
    _assert_size(size, 2, 640)


def test_the_system_call_filter_of_the_spec_holds_where_the_configuration_lets_the_guest_have_it(
    bed: Bed, nothing_left: None, tmp_path: Path
) -> None:
    configuration = _configured(tmp_path, "runtime", disable_guest_seccomp="false")
    ctr = Ctr(bed.socket, bed.runtime, configuration=configuration)

    done = ctr.run(
        "filtered", "sh", "-c", "grep Seccomp: /proc/self/status; unshare -m true", options=("--rm", "--seccomp")
    )

    assert done.text.split() == ["Seccomp:", "2"]
    assert "Operation not permitted" in done.error_text


def test_a_container_s_limits_are_added_to_the_configured_size(bed: Bed, nothing_left: None, tmp_path: Path) -> None:
    ctr = Ctr(bed.socket, bed.runtime, configuration=_configured(tmp_path, default_vcpus=1, default_memory=512))
    limits = ("--memory-limit", str(256 * MIB), "--cpu-quota", "50000", "--cpu-period", "100000")

    done = ctr.run("limited", "sh", "-c", _SIZE, options=("--rm", *limits))

    _assert_size(done.check().text, 2, 768)


def test_a_container_alone_has_its_own_shared_memory_and_the_name_of_its_spec(
    ctr: Ctr, bed: Bed, tmp_path: Path
) -> None:
    size = 12 * MIB
    shm = {
        "destination": "/dev/shm",
        "type": "tmpfs",
        "source": "shm",
        "options": ["nosuid", "noexec", "nodev", "mode=1777", f"size={size}"],
    }
    root = specs.unpack_root(bed.directory / "rootfs")
    spec = specs.spec(("sh", "-c", "hostname; df -k /dev/shm | tail -n 1"), root, mounts=[shm], hostname="alone.test")
    file = tmp_path / "spec.json"
    file.write_text(specs.json_text(spec))

    # 76 characters are the most that containerd allows; the name is in the paths of sockets.
    done = ctr.run_spec("alone".ljust(76, "x"), file)

    name, filesystem = done.check().text.split("\n")
    assert name == "alone.test"
    assert int(filesystem.split()[1]) * 1024 == size


def test_the_same_id_in_two_namespaces_at_the_same_time_is_two_machines(bed: Bed, nothing_left: None) -> None:
    clients = [bed.ctr("default"), bed.ctr("k8s.io")]

    def start(ctr: Ctr) -> tuple[str, str]:
        ctr.run_detached("twin", "sleep", "1000", options=("--null-io",))
        return guest.identity(ctr.exec("twin", *guest.IDENTITY_COMMAND).check().text)

    with ThreadPoolExecutor(2) as threads:
        (kernel, one), (_, other) = threads.map(start, clients)
        assert kernel != guest.host_kernel()
        assert one != other
        clients[0].remove("twin")
        assert clients[1].tasks()["twin"] == "RUNNING"
        assert clients[1].exec("twin", "echo", "alive").check().text == "alive"
        clients[1].remove("twin")


def test_a_container_that_is_killed_is_gone_with_its_machine_within_seconds(ctr: Ctr) -> None:
    ctr.run_detached("short", "sleep", "1000", options=("--null-io",))

    began = time.monotonic()
    ctr.kill("short").check()
    deleted = ctr.delete("short", options=("--force",))

    assert "exit code 137" in deleted.error_text
    assert time.monotonic() - began < 3
    ctr.remove("short")
