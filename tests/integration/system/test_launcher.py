"""The installed launcher, run as containerd runs it, with a real VM behind it and no containerd at all."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from protos import anys
from protos.codec import decode, encode
from protos.gen.containerd.runtime.bootstrap.v1 import BootstrapParams, BootstrapResult
from protos.gen.containerd.task.v2 import (
    CreateTaskRequest,
    DeleteRequest,
    DeleteResponse,
    ShutdownRequest,
    StartRequest,
    WaitRequest,
)
from protos.gen.containerd.types import RuntimeInfo
from protos.gen.runtimeoptions.v1 import Options
from sandbox.rundir import read_journal, run_dir_for
from tests.harness import paths, processes, shim_binary
from tests.harness.bundles import Bundle
from tests.harness.command import run
from tests.harness.shim_binary import ShimBinary
from tests.harness.waiting import eventually
from tests.integration.system import specs
from tests.integration.system.task import Reader, make_fifos

pytestmark = [pytest.mark.integration, pytest.mark.anyio, pytest.mark.usefixtures("nothing_left")]

OPTIONS = anys.pack(Options(config_path=str(paths.CONFIGURATION)))


class Place:
    """Bundles and a root file system for containers of one shim."""

    def __init__(self, directory: Path) -> None:
        self.shim = ShimBinary(paths.SHIM, directory / "containerd.sock")
        self._directory = directory
        self._bundles: list[Bundle] = []

    def bundle(self, container: str, *command: str, pod: tuple[str, str] | None = None) -> Path:
        """A bundle that runs `command`; `pod` is the container's kind and its pod's id."""
        root = specs.unpack_root(self._directory / "root")
        annotations = specs.pod_annotations(*pod) if pod else {}
        bundle = Bundle(self._directory / "bundles" / container, specs.spec(command, root, annotations=annotations))
        self._bundles.append(bundle)
        return bundle.path

    def start(self, container: str, bundle: Path) -> str:
        """`start`; returns the address that it prints."""
        return self.shim.start(container, bundle, encode(OPTIONS)).check().stdout.decode()

    def run_dir(self, sandbox: str) -> Path:
        """The sandbox' run directory."""
        return run_dir_for(str(self.shim.containerd), self.shim.namespace, sandbox)

    def close(self) -> None:
        """Close the bundles' log readers."""
        for bundle in self._bundles:
            bundle.close()


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    """A place for one shim."""
    one = Place(tmp_path)
    yield one
    one.close()


async def test_a_container_lives_and_ends_without_any_containerd(place: Place, tmp_path: Path) -> None:
    bundle = place.bundle("alone", "sh", "-c", "uname -r; exit 21")
    (out,) = make_fifos(tmp_path, "out")
    reader = Reader(out)

    address = place.start("alone", bundle)

    assert re.fullmatch(r"unix:///run/containerd/s/[0-9a-f]{64}", address.strip())
    assert (bundle / "address").read_text() == address.strip()
    (daemon,) = place.shim.daemons("alone")
    assert {os.readlink(f"/proc/{daemon.pid}/fd/{number}") for number in (0, 1)} == {"/dev/null"}
    async with shim_binary.connect(address) as task:
        request = CreateTaskRequest(id="alone", bundle=str(bundle), stdout=str(out), options=OPTIONS)
        pid = (await task.create(request)).pid
        assert Path(f"/proc/{pid}/comm").read_text().startswith("qemu-system")
        await task.start(StartRequest(id="alone"))
        end = await task.wait(WaitRequest(id="alone"))
        assert end.exit_status == 21
        assert (await reader.read_all()).decode().strip() not in ("", os.uname().release)
        deleted = await task.delete(DeleteRequest(id="alone"))
        assert (deleted.exit_status, deleted.pid) == (21, pid)
        await task.shutdown(ShutdownRequest(id="alone"))
    reader.close()

    eventually(lambda: not place.shim.daemons("alone"), "the daemon ends")
    assert not Path(address.strip().removeprefix("unix://")).exists()
    assert not place.run_dir("alone").exists()
    assert list((bundle / "rootfs").iterdir()) == []
    # containerd does this after every end, clean ones too.
    assert decode(DeleteResponse, place.shim.delete("alone", bundle).check().stdout).exit_status == 137


async def test_a_container_of_a_pod_is_led_to_the_pod_s_daemon_and_delete_cleans_up_after_its_death(
    place: Place,
) -> None:
    pod = place.bundle("pod", "sleep", "1000", pod=("sandbox", "pod"))
    member = place.bundle("member", "sleep", "1000", pod=("container", "pod"))
    with ThreadPoolExecutor(2) as threads:
        addresses = set(threads.map(lambda _: place.start("pod", pod), range(2)))
    (address,) = addresses
    assert place.start("member", member) == address
    assert (member / "address").read_text() == address.strip()
    (daemon,) = place.shim.daemons("pod")
    async with shim_binary.connect(address) as task:
        for name, bundle in (("pod", pod), ("member", member)):
            await task.create(CreateTaskRequest(id=name, bundle=str(bundle), options=OPTIONS))
            await task.start(StartRequest(id=name))
        journal = read_journal(place.run_dir("pod"))
        children = {name: entry["pid"] for name, entry in journal["processes"].items()}

        os.kill(daemon.pid, signal.SIGKILL)

    assert children["daemon"] == daemon.pid
    assert set(children) == {"daemon", "qemu", "virtiofsd"}
    eventually(lambda: not any(map(processes.is_alive, children.values())), "the VM goes with the daemon", timeout=5)
    began = time.monotonic()
    with ThreadPoolExecutor(2) as threads:
        done = list(threads.map(lambda item: place.shim.delete(*item), [("member", member), ("pod", pod)]))
    assert time.monotonic() - began < 3
    for one in done:
        assert decode(DeleteResponse, one.check().stdout).exit_status == 137
    assert not place.run_dir("pod").exists()
    assert not Path(address.strip().removeprefix("unix://")).exists()


def test_delete_of_what_never_was_is_quick_silent_and_right_ten_times_at_once(place: Place, tmp_path: Path) -> None:
    began = time.monotonic()
    with ThreadPoolExecutor(10) as threads:
        done = list(threads.map(lambda n: place.shim.delete(f"never-{n % 3}", tmp_path / "gone"), range(10)))

    assert time.monotonic() - began < 5
    for one in done:
        answer = decode(DeleteResponse, one.check().stdout)
        assert answer.exit_status == 137
        assert answer.exited_at is not None
        assert one.stderr == b""


def test_containerd_2_3_is_answered_in_its_own_dialect(place: Place) -> None:
    bundle = place.bundle("modern", "true")
    parameters = BootstrapParams(
        instance_id="modern",
        namespace=place.shim.namespace,
        containerd_grpc_address=str(place.shim.containerd),
        containerd_ttrpc_address=f"{place.shim.containerd}.ttrpc",
    )

    answer = place.shim.start("modern", bundle, encode(parameters)).check().stdout

    try:
        text = answer.decode()
        if not text.startswith("unix://"):
            text = decode(BootstrapResult, answer).address
        assert text.strip().removeprefix("unix://").startswith("/run/containerd/s/")
    finally:
        place.shim.kill_daemons("modern")
        place.shim.delete("modern", bundle).check()


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("{not json", "config.json"),
        ('{"annotations": {"io.kubernetes.cri.container-type": "planet"}}', "planet"),
    ],
)
def test_a_bundle_that_makes_no_sense_is_refused_in_one_line(
    place: Place, tmp_path: Path, spec: str, said: str
) -> None:
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    (bundle / "config.json").write_text(spec)

    done = place.shim.start("refused", bundle)

    assert (done.returncode, done.stdout) == (1, b"")
    assert said in done.error_text
    assert len(done.error_text.splitlines()) == 1
    assert place.shim.daemons("refused") == []


def test_version_and_information(place: Place) -> None:
    version = run(paths.SHIM, "-v").check()
    info = decode(RuntimeInfo, run(paths.SHIM, "-info").check().stdout)

    assert re.search(r"\d+\.\d+", version.text)
    assert info.name == "io.containerd.kata.v2"
    assert info.version is not None
    assert info.version.version in version.text
    assert info.features is not None
    assert json.loads(info.features.value)["linux"]["namespaces"]
