"""Bad input: the right code and one line, and a pod that runs is not the worse for it."""

from __future__ import annotations

import itertools
import json
from collections.abc import Awaitable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import pytest
from grpclib.const import Status
from grpclib.exceptions import GRPCError

from protos.gen.containerd.task.v2 import (
    CreateTaskRequest,
    DeleteRequest,
    KillRequest,
    StartRequest,
    StateRequest,
    TaskStub,
    WaitRequest,
)
from protos.gen.containerd.types import Mount
from protos.gen.containerd.v1.types import Status as TaskStatus
from tests.harness import bundles, paths
from tests.harness.fixtures import BedKeeper
from tests.harness.shim_binary import ShimBinary
from tests.harness.waiting import eventually_async
from tests.integration.faults.direct import (
    BOOT_TIMEOUT,
    CALL_TIMEOUT,
    Direct,
    connect,
    end,
    exec_request,
    pod_annotations,
    shut_down,
    start,
)

pytestmark = pytest.mark.integration

POD = "inputpod"
_CRI = "io.kubernetes.cri."
_MEMBER = {_CRI + "container-type": "container", _CRI + "sandbox-id": POD}
_proofs = itertools.count()

#: Runs until it is told to end, and says when it can be told.
_PATIENT = "trap 'exit {status}' TERM; echo ready; while :; do sleep 0.1; done"

NOT_IDS = ("", ".", "..", "a/b", "../../etc/passwd", f"{POD}/../x", "a\n", "a\0b", "-a", "a" * 77)


@dataclass(frozen=True)
class Pod:
    """A running pod that all tests of this module share, and its shim's address."""

    direct: Direct
    address: str


@pytest.fixture(scope="module")
def pod(bed_keeper: BedKeeper, rootfs: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pod]:
    """Boots once; at the end nothing may be left of it."""
    bed = bed_keeper.bed()
    check = bed.leak_check()
    directory = tmp_path_factory.mktemp("input")
    direct = Direct(ShimBinary(paths.SHIM, bed.socket, "faults"), directory, rootfs, paths.CONFIGURATION)
    one = Pod(direct, direct.start(POD, annotations=pod_annotations(POD)))
    try:
        anyio.run(_boot, one)
        yield one
        anyio.run(_close, one)
        check.assert_clean()
    finally:
        direct.sweep()


async def _boot(pod: Pod) -> None:
    async with connect(pod.address) as task:
        await task.create(pod.direct.request(POD), timeout=BOOT_TIMEOUT)
        await start(task, POD)


async def _close(pod: Pod) -> None:
    async with connect(pod.address) as task:
        await end(task, POD)
        await shut_down(task)


async def _refused(call: Awaitable[Any], status: Status, *words: str) -> None:
    with pytest.raises(GRPCError) as caught:
        await call
    message = str(caught.value.message)
    assert caught.value.status is status, caught.value
    assert all(word in message for word in words), message
    assert message.isprintable()


async def _assert_unharmed(pod: Pod, task: TaskStub) -> None:
    """The pod runs, and takes another container."""
    assert (await task.state(StateRequest(id=POD), timeout=2)).status == TaskStatus.RUNNING
    name = f"proof{next(_proofs)}"
    await task.create(pod.direct.member(name, POD, "sh", "-c", "exit 3"), timeout=CALL_TIMEOUT)
    await start(task, name)
    assert (await task.wait(WaitRequest(id=name), timeout=CALL_TIMEOUT)).exit_status == 3
    await task.delete(DeleteRequest(id=name), timeout=CALL_TIMEOUT)


CONFIGS = {
    "missing": (None, ("config.json: No such file",)),
    "empty": ("", ("config.json",)),
    "cut off": ("{", ("config.json",)),
    "a list": ("[]", ("config.json", "object")),
    "nested too deeply": ("[" * 200_000, ("config.json",)),
    "without root": (json.dumps({"process": {"args": ["true"], "cwd": "/"}}), ("root",)),
    "arguments that are a text": (
        json.dumps({"ociVersion": "1.0.2", "root": {"path": "rootfs"}, "process": {"args": "true", "cwd": "/"}}),
        ("process.args",),
    ),
    "no arguments": (
        json.dumps({"ociVersion": "1.0.2", "root": {"path": "rootfs"}, "process": {"args": [], "cwd": "/"}}),
        ("process.args is empty",),
    ),
    "an unknown type of container": (
        json.dumps(bundles.spec(["true"], {_CRI + "container-type": "nonsense"})),
        ("unknown container type 'nonsense'",),
    ),
    "a container without its pod": (
        json.dumps(bundles.spec(["true"], {_CRI + "container-type": "container"})),
        ("no annotation names its sandbox",),
    ),
    "a container of another pod": (
        json.dumps(bundles.spec(["true"], {_CRI + "container-type": "container", _CRI + "sandbox-id": "other"})),
        ("sandbox other",),
    ),
}


async def test_a_spec_that_is_none_makes_no_container(nothing_left: None, pod: Pod) -> None:
    async with connect(pod.address) as task:
        for number, (text, words) in enumerate(CONFIGS.values()):
            container = f"config{number}"
            bundle = pod.direct.bundle(container, None)
            if text is not None:
                (bundle / "config.json").write_text(text)

            request = pod.direct.request(container)
            await _refused(task.create(request, timeout=CALL_TIMEOUT), Status.INVALID_ARGUMENT, *words)

            await _refused(task.state(StateRequest(id=container)), Status.NOT_FOUND, container)
        await _assert_unharmed(pod, task)


@pytest.mark.parametrize("fault", ["missing", "without root", "no arguments"])
async def test_a_first_container_that_is_refused_leaves_no_sandbox(direct: Direct, fault: str) -> None:
    text, words = CONFIGS[fault]
    bundle = direct.bundle("first", None)
    if text is not None:
        (bundle / "config.json").write_text(text)
    async with connect(direct.start_bundle("first")) as task:
        request = direct.request("first")
        await _refused(task.create(request, timeout=CALL_TIMEOUT), Status.INVALID_ARGUMENT, *words)
        await _refused(task.delete(DeleteRequest(id="first")), Status.NOT_FOUND, "first")
        await shut_down(task)


@pytest.mark.parametrize("fault", ["empty", "cut off", "a list", "nested too deeply", "an unknown type of container"])
def test_a_bundle_that_start_cannot_read_gets_no_daemon(direct: Direct, fault: str) -> None:
    text, words = CONFIGS[fault]
    bundle = direct.bundle("first", None)
    (bundle / "config.json").write_text(text or "")

    done = direct.shim.start("first", bundle)

    assert done.returncode == 1
    (line,) = done.error_text.splitlines()
    assert words[0] in line


async def test_another_sandbox_does_not_fit_into_a_pod(nothing_left: None, pod: Pod) -> None:
    async with connect(pod.address) as task:
        for name, annotations in (("single", {}), ("second", pod_annotations(POD))):
            pod.direct.bundle(name, bundles.spec(["true"], annotations))
            await _refused(task.create(pod.direct.request(name), timeout=CALL_TIMEOUT), Status.ALREADY_EXISTS, POD)


async def test_an_id_that_is_none_is_refused_everywhere(nothing_left: None, pod: Pod) -> None:
    shim, somewhere = pod.direct.shim, pod.direct.bundle("ids", bundles.spec(["true"], _MEMBER))
    async with connect(pod.address) as task:
        for bad in NOT_IDS:
            create = CreateTaskRequest(id=bad, bundle=str(somewhere))
            await _refused(task.create(create, timeout=CALL_TIMEOUT), Status.INVALID_ARGUMENT, "container id")
            await _refused(task.exec(exec_request(POD, bad, ["true"])), Status.INVALID_ARGUMENT, "exec id")
            if "\0" not in bad:
                for done in (shim.start(bad, somewhere), shim.delete(bad, somewhere)):
                    assert done.returncode == 1
                    assert "flag -id" in done.error_text
                    assert len(done.error_text.splitlines()) == 1
    assert not (somewhere / "address").exists()


async def test_a_root_file_system_that_is_missing_makes_no_container(nothing_left: None, pod: Pod) -> None:
    cases = {
        "bind": ([Mount(type="bind", source="/none/such", options=["rbind"])], "/none/such"),
        "overlay": ([Mount(type="overlay", source="overlay", options=["lowerdir=/none/a:/none/b"])], "overlay"),
        "kind": ([Mount(type="nonsense", source=str(pod.direct.rootfs))], "nonsense"),
    }
    async with connect(pod.address) as task:
        for name, (mounts, word) in cases.items():
            request = pod.direct.member(name, POD)
            request.rootfs = mounts
            with pytest.raises(GRPCError) as caught:
                await task.create(request, timeout=CALL_TIMEOUT)
            assert caught.value.status in (Status.INVALID_ARGUMENT, Status.UNKNOWN), caught.value
            assert word in str(caught.value.message)
            await _refused(task.delete(DeleteRequest(id=name)), Status.NOT_FOUND)
        await _assert_unharmed(pod, task)


#: A command, the exit status by the shell's convention, and what runc says of it, which clients look for.
COMMANDS = (
    ("nonsense", 127, 'exec: "nonsense": executable file not found in $PATH'),
    ("/bin/nonsense", 127, 'exec: "/bin/nonsense": no such file or directory'),
    ("/etc/passwd", 126, 'exec: "/etc/passwd": permission denied'),
    ("/etc", 126, 'exec: "/etc": permission denied'),
)


async def test_an_exec_that_cannot_run_says_so_and_has_an_exit_status(nothing_left: None, pod: Pod) -> None:
    async with connect(pod.address) as task:
        for number, (command, exit_status, text) in enumerate(COMMANDS):
            name = f"bad{number}"
            await task.exec(exec_request(POD, name, [command]))

            await _refused(start(task, POD, name), Status.UNKNOWN, text)

            ended = await task.wait(WaitRequest(id=POD, exec_id=name), timeout=CALL_TIMEOUT)
            state = await task.state(StateRequest(id=POD, exec_id=name))
            deleted = await task.delete(DeleteRequest(id=POD, exec_id=name), timeout=5)
            assert (ended.exit_status, state.exit_status, deleted.exit_status) == (exit_status,) * 3
            assert state.status == TaskStatus.STOPPED
        await _assert_unharmed(pod, task)


async def test_an_init_that_cannot_run_fails_its_create_as_with_runc(nothing_left: None, pod: Pod) -> None:
    async with connect(pod.address) as task:
        for number, (command, _, text) in enumerate(COMMANDS):
            name = f"init{number}"
            request = pod.direct.member(name, POD, command)

            await _refused(task.create(request, timeout=CALL_TIMEOUT), Status.UNKNOWN, text)

            await _refused(task.delete(DeleteRequest(id=name)), Status.NOT_FOUND, name)
        await _assert_unharmed(pod, task)


async def test_moves_that_the_state_does_not_allow_change_nothing(nothing_left: None, pod: Pod, tmp_path: Path) -> None:
    direct = pod.direct
    async with connect(pod.address) as task:
        request = direct.member("moves", POD, "sh", "-c", _PATIENT.format(status=4))
        request.stdout = f"file://{tmp_path}/init"
        await task.create(request, timeout=CALL_TIMEOUT)
        await _refused(task.create(request, timeout=CALL_TIMEOUT), Status.ALREADY_EXISTS, "moves")
        await _refused(task.exec(exec_request("moves", "e", ["true"])), Status.FAILED_PRECONDITION, "created")
        await start(task, "moves")
        await _wait_ready(tmp_path / "init")

        await _refused(start(task, "moves"), Status.FAILED_PRECONDITION, "running")
        await _refused(task.create(request, timeout=CALL_TIMEOUT), Status.ALREADY_EXISTS, "moves")
        await _refused(task.delete(DeleteRequest(id="moves")), Status.FAILED_PRECONDITION, "running")
        await _refused(task.kill(KillRequest(id="moves", signal=99)), Status.INVALID_ARGUMENT, "99")
        await _exec_moves(task, tmp_path / "exec")
        assert (await task.state(StateRequest(id="moves"))).status == TaskStatus.RUNNING
        await task.kill(KillRequest(id="moves", signal=15), timeout=CALL_TIMEOUT)
        assert (await task.wait(WaitRequest(id="moves"), timeout=CALL_TIMEOUT)).exit_status == 4

        await _refused(task.kill(KillRequest(id="moves", signal=9)), Status.NOT_FOUND, "already finished")
        await _refused(start(task, "moves"), Status.FAILED_PRECONDITION, "stopped")
        await _refused(task.exec(exec_request("moves", "e", ["true"])), Status.FAILED_PRECONDITION, "stopped")
        assert (await task.wait(WaitRequest(id="moves"), timeout=1)).exit_status == 4
        assert (await task.delete(DeleteRequest(id="moves"), timeout=CALL_TIMEOUT)).exit_status == 4
        await _refused(task.delete(DeleteRequest(id="moves")), Status.NOT_FOUND, "moves")
        await _assert_unharmed(pod, task)


async def _wait_ready(output: Path) -> None:
    async def ready() -> bool:
        return output.exists() and output.read_text() == "ready\n"

    await eventually_async(ready, f"{output} says ready")


async def _exec_moves(task: TaskStub, output: Path) -> None:
    run = exec_request("moves", "e", ["sh", "-c", _PATIENT.format(status=5)], stdout=f"file://{output}")
    await task.exec(run)
    await _refused(task.exec(run), Status.ALREADY_EXISTS, "exec e")
    await _refused(task.kill(KillRequest(id="moves", exec_id="e", signal=9)), Status.FAILED_PRECONDITION, "not created")
    await start(task, "moves", "e")
    await _wait_ready(output)
    await _refused(start(task, "moves", "e"), Status.FAILED_PRECONDITION, "running")
    await _refused(task.exec(run), Status.ALREADY_EXISTS, "exec e")
    await _refused(task.delete(DeleteRequest(id="moves", exec_id="e")), Status.FAILED_PRECONDITION, "running")
    await task.kill(KillRequest(id="moves", exec_id="e", signal=15), timeout=CALL_TIMEOUT)
    assert (await task.wait(WaitRequest(id="moves", exec_id="e"), timeout=CALL_TIMEOUT)).exit_status == 5
    await _refused(task.kill(KillRequest(id="moves", exec_id="e", signal=9)), Status.NOT_FOUND, "already finished")
    assert (await task.delete(DeleteRequest(id="moves", exec_id="e"), timeout=CALL_TIMEOUT)).exit_status == 5


async def test_whoever_is_unknown_is_not_found(nothing_left: None, pod: Pod) -> None:
    async with connect(pod.address) as task:
        for container, exec_id in (("nobody", ""), (POD, "nobody"), ("../..", "")):
            calls = (
                task.state(StateRequest(id=container, exec_id=exec_id)),
                task.start(StartRequest(id=container, exec_id=exec_id)),
                task.wait(WaitRequest(id=container, exec_id=exec_id)),
                task.kill(KillRequest(id=container, exec_id=exec_id, signal=9)),
                task.delete(DeleteRequest(id=container, exec_id=exec_id)),
            )
            for call in calls:
                await _refused(call, Status.NOT_FOUND)
        await _refused(task.exec(exec_request("nobody", "e", ["true"])), Status.NOT_FOUND, "nobody")
