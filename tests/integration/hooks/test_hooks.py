"""OCI hooks around real guests: moments, namespaces, environment, and what their failures do."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest
from grpclib.const import Status
from grpclib.exceptions import GRPCError

from protos.gen.containerd.task.v2 import DeleteRequest, KillRequest, StateRequest, TaskStub, WaitRequest
from protos.gen.containerd.v1.types import Status as TaskStatus
from tests.harness import bundles
from tests.integration.faults.direct import (
    BOOT_TIMEOUT,
    CALL_TIMEOUT,
    Direct,
    connect,
    end,
    pod_annotations,
    shut_down,
    start,
)

pytestmark = [pytest.mark.integration, pytest.mark.anyio]

POD = "hookpod"
_CRI = "io.kubernetes.cri."
_MEMBER = {_CRI + "container-type": "container", _CRI + "sandbox-id": POD}
_STAY = ("sleep", "1000")
#: Makes an interface in the network namespace it runs in.
_INTERFACE = """
ip link add hook0 type veth peer name hook1 netns 1
ip address add 192.0.2.7/24 dev hook0 && ip link set hook0 up
"""


def hook(script: str, **fields: Any) -> dict[str, Any]:
    """A hook that runs a script."""
    return {"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"], **fields}


def recorder(log: Path, word: str) -> dict[str, Any]:
    """A hook that appends its word, its network namespace and the state it was given to a file."""
    return hook(f'echo "$WORD $(stat -Lc %i /proc/self/ns/net) $(cat)" >> {log}', env=[f"WORD={word}", "PATH=/usr/bin"])


def recorded(log: Path) -> list[tuple[str, int, dict[str, Any]]]:
    """What such hooks wrote."""
    lines = [line.split(" ", 2) for line in log.read_text().splitlines()]
    return [(word, int(inode), json.loads(text)) for word, inode, text in lines]


def make(direct: Direct, name: str, hooks: dict[str, Any], *command: str, netns: Path | None = None) -> Any:
    """A bundle with hooks, of the pod or of one of its containers; the request to create it."""
    annotations = pod_annotations(POD) if name == POD else _MEMBER
    spec = bundles.spec(command or _STAY, annotations) | {"hooks": hooks}
    if netns:
        for namespace in spec["linux"]["namespaces"]:
            if namespace["type"] == "network":
                namespace["path"] = str(netns)
    direct.bundle(name, spec)
    return direct.request(name)


async def fails(call: Any, *words: str) -> GRPCError:
    """The error of a call that must fail with these words in one line."""
    with pytest.raises(GRPCError) as caught:
        await call
    message = str(caught.value.message)
    assert all(word in message for word in words), message
    assert message.isprintable()
    return caught.value


async def runs_to(task: TaskStub, name: str) -> int:
    """Start a container; its exit status, when it has ended and is deleted."""
    await start(task, name)
    status = (await task.wait(WaitRequest(id=name), timeout=CALL_TIMEOUT)).exit_status
    await task.delete(DeleteRequest(id=name), timeout=CALL_TIMEOUT)
    return status


async def test_the_life_of_a_pod_with_hooks_and_of_its_containers(direct: Direct, tmp_path: Path, netns: Path) -> None:
    """One guest for all that needs a running one."""
    log = tmp_path / "log"
    hooks = {kind: [recorder(log, kind)] for kind in ("prestart", "createRuntime", "poststart", "poststop")}
    hooks["prestart"].append(hook(_INTERFACE))
    request = make(direct, POD, hooks, netns=netns)
    async with connect(direct.start_bundle(POD)) as task:
        vm = (await task.create(request, timeout=BOOT_TIMEOUT)).pid
        _check_created(log, netns, request.bundle)

        await start(task, POD)
        _check_started(log, netns, vm)

        look = ("sh", "-c", "ip address show dev hook0 | grep -q 192.0.2.7")
        await task.create(make(direct, "net", {}, *look), timeout=CALL_TIMEOUT)
        assert await runs_to(task, "net") == 0, "the hook's interface is not in the guest"

        await _check_guest_hooks(direct, task)
        await _check_failing_hooks(direct, task, tmp_path)

        await end(task, POD)
        word, _, state = recorded(log)[-1]
        assert (word, state["status"], "pid" in state) == ("poststop", "stopped", False)
        await shut_down(task)


def _check_created(log: Path, netns: Path, bundle: str) -> None:
    assert [word for word, _, _ in recorded(log)] == ["prestart", "createRuntime"]
    for _, inode, state in recorded(log):
        assert inode == netns.stat().st_ino
        assert (state["id"], state["status"], state["bundle"]) == (POD, "creating", bundle)
        assert state["annotations"] == pod_annotations(POD)
        os.kill(state["pid"], 0)


def _check_started(log: Path, netns: Path, vm: int) -> None:
    word, inode, state = recorded(log)[-1]
    assert (word, inode, state["status"], state["pid"]) == ("poststart", netns.stat().st_ino, "running", vm)


async def _check_guest_hooks(direct: Direct, task: TaskStub) -> None:
    """They run in the guest: in the container's namespaces, before its program."""
    inside = {
        "createContainer": [hook("[ -e /proc/1 ]")],
        "startContainer": [hook('cat > /dev/state; echo "$MINE" > /dev/mine', env=["MINE=my own", "PATH=/bin"])],
    }
    script = "grep -q '\"id\"' /dev/state && [ \"$(cat /dev/mine)\" = 'my own' ] && exit 7"
    await task.create(make(direct, "inside", inside, "sh", "-c", script), timeout=CALL_TIMEOUT)
    assert await runs_to(task, "inside") == 7


async def _check_failing_hooks(direct: Direct, task: TaskStub, tmp_path: Path) -> None:
    """The error is the hook's own words, the container is not there, and the pod is none the worse."""
    failing = [hook("echo 'no luck today' >&2; exit 3")]
    after = tmp_path / "after"
    for kind in ("prestart", "createRuntime", "createContainer"):
        name = kind.lower()
        request = make(direct, name, {kind: failing, "poststop": [recorder(after, kind)]})
        await fails(task.create(request, timeout=CALL_TIMEOUT), "no luck today")
        assert (await fails(task.state(StateRequest(id=name)))).status is Status.NOT_FOUND
    assert [word for word, _, _ in recorded(after)] == ["prestart", "createRuntime", "createContainer"]

    await task.create(make(direct, "late", {"startContainer": failing}), timeout=CALL_TIMEOUT)
    await fails(start(task, "late"), "no luck today")
    await task.delete(DeleteRequest(id="late"), timeout=CALL_TIMEOUT)

    await task.create(make(direct, "told", {"poststart": failing}, "sh", "-c", "exit 5"), timeout=CALL_TIMEOUT)
    assert await runs_to(task, "told") == 5
    assert (await task.state(StateRequest(id=POD))).status == TaskStatus.RUNNING


async def test_a_prestart_hook_that_fails_leaves_no_pod(direct: Direct, tmp_path: Path) -> None:
    after = tmp_path / "after"
    hooks = {"prestart": [hook("echo 'no such bridge' >&2; exit 4")], "poststop": [recorder(after, "poststop")]}
    request = make(direct, POD, hooks)
    async with connect(direct.start_bundle(POD)) as task:
        await fails(
            task.create(request, timeout=BOOT_TIMEOUT),
            f"prestart hook /bin/sh of container {POD}",
            "no such bridge",
        )
        assert [word for word, _, _ in recorded(after)] == ["poststop"]
        await fails(task.kill(KillRequest(id=POD, signal=9)))
        await shut_down(task)


async def test_a_hook_that_hangs_is_ended_at_its_deadline(direct: Direct) -> None:
    request = make(direct, POD, {"createRuntime": [hook("echo waiting; sleep 1000", timeout=1)]})
    async with connect(direct.start_bundle(POD)) as task:
        began = time.monotonic()
        error = await fails(task.create(request, timeout=BOOT_TIMEOUT), "createRuntime hook", "within 1 s", "waiting")
        assert error.status is Status.DEADLINE_EXCEEDED
        assert time.monotonic() - began < CALL_TIMEOUT
        await shut_down(task)


async def test_a_hook_that_is_not_there_is_named(direct: Direct) -> None:
    request = make(direct, POD, {"prestart": [{"path": "/no/such/hook"}]})
    async with connect(direct.start_bundle(POD)) as task:
        await fails(task.create(request, timeout=BOOT_TIMEOUT), "prestart hook /no/such/hook", "no such program")
        await shut_down(task)
