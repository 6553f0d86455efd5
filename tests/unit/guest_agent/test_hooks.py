"""Guest hooks: which run, with what, and what their failure means."""

from __future__ import annotations

import json
import os

import pytest
from grpclib.const import Status
from grpclib.exceptions import GRPCError

from guest.agent import hooks
from guest.agent.errors import InternalError
from guest.agent.hooks import GuestHooks
from guest.agent.service import AgentService
from protos.lean.gen import grpc as pb

pytestmark = pytest.mark.anyio


@pytest.fixture
def hook(tmp_path):
    """Writes a hook."""

    def write(kind: str, name: str, script: str, mode: int = 0o755) -> None:
        directory = tmp_path / "hooks" / kind
        directory.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text(f"#!/bin/sh\n{script}\n")
        (directory / name).chmod(mode)

    (tmp_path / "hooks").mkdir()
    write.directory = str(tmp_path / "hooks")
    return write


async def test_executable_files_run_in_order_and_nothing_else(hook, reaper, tmp_path):
    for name in ("20-b", "10-a", "30-c"):
        hook("prestart", name, f"echo {name} >> {tmp_path}/ran")
    hook("prestart", "15-not-executable", "exit 1", 0o644)
    os.symlink("/bin/false", tmp_path / "hooks/prestart/16-link")
    (tmp_path / "hooks/prestart/17-directory").mkdir()

    await GuestHooks(hook.directory, reaper).prestart("c1", 7, "/b", {})

    assert (tmp_path / "ran").read_text() == "10-a\n20-b\n30-c\n"


async def test_a_hook_gets_the_state_and_kata_s_arguments(hook, reaper, tmp_path):
    hook("prestart", "h", f'cat > {tmp_path}/state; echo "$0 $*" > {tmp_path}/arguments')

    await GuestHooks(hook.directory, reaper).prestart("c1", 7, "/bundle", {"a": "b"})

    assert json.loads((tmp_path / "state").read_text()) == {
        "ociVersion": "1.0.2",
        "id": "c1",
        "status": "created",
        "pid": 7,
        "bundle": "/bundle",
        "annotations": {"a": "b"},
    }
    assert (tmp_path / "arguments").read_text() == f"{hook.directory}/prestart/h prestart\n"


async def test_a_prestart_hook_that_fails_says_why(hook, reaper):
    hook("prestart", "h", "echo not today >&2; exit 3")

    with pytest.raises(InternalError, match=r"prestart hook .*/h: not today"):
        await GuestHooks(hook.directory, reaper).prestart("c1", 7, "/b", {})


@pytest.mark.parametrize("kind", ["poststart", "poststop"])
async def test_what_fails_later_is_logged_and_the_next_hook_runs(hook, reaper, tmp_path, caplog, kind):
    hook(kind, "1", "echo not today >&2; exit 3")
    hook(kind, "2", f"touch {tmp_path}/ran")
    guest = GuestHooks(hook.directory, reaper)

    await (guest.poststart("c1", 7, "/b", {}) if kind == "poststart" else guest.poststop("c1", "/b", {}))

    assert "not today" in caplog.text
    assert (tmp_path / "ran").exists()


async def test_a_hook_that_hangs_is_ended(hook, reaper, monkeypatch):
    monkeypatch.setattr(hooks, "TIMEOUT", 0.2)
    hook("prestart", "h", "sleep 1000")

    with pytest.raises(GRPCError) as caught:
        await GuestHooks(hook.directory, reaper).prestart("c1", 7, "/b", {})

    assert caught.value.status is Status.DEADLINE_EXCEEDED


async def test_a_directory_without_hooks_is_no_error(reaper):
    await GuestHooks("/nonexistent", reaper).prestart("c1", 7, "/b", {})


class TestInTheLifeOfAContainer:
    @pytest.fixture
    async def service(self, agent, hook):
        service = AgentService(agent)
        await service.create_sandbox(pb.CreateSandboxRequest(guest_hook_path=hook.directory))
        return service

    async def test_all_kinds_run_in_their_place(self, service, agent, hook, make_spec, tmp_path):
        bundle = agent.layout.bundle("c1")
        status = 's/.*"status": "\\([a-z]*\\)".*/\\1 /'
        for kind in hooks.KINDS:
            hook(kind, "h", f"sed '{status}' >> {tmp_path}/ran; test -f {bundle}/config.json")
        agent.containers.hooks = GuestHooks(hook.directory, agent.reaper)

        await service.create_container(pb.CreateContainerRequest(container_id="c1", oci=make_spec("sleep", "1000")))
        await service.start_container(pb.StartContainerRequest(container_id="c1"))
        await service.remove_container(pb.RemoveContainerRequest(container_id="c1"))

        assert (tmp_path / "ran").read_text().split() == ["created", "running", "stopped"]

    async def test_a_prestart_hook_that_fails_leaves_no_container(self, service, agent, hook, make_spec):
        hook("prestart", "h", "echo not today >&2; exit 3")
        agent.containers.hooks = GuestHooks(hook.directory, agent.reaper)
        before = os.listdir("/proc/self/fd")

        with pytest.raises(GRPCError, match="not today"):
            await service.create_container(pb.CreateContainerRequest(container_id="c1", oci=make_spec("sleep", "1000")))

        assert agent.containers.ids == []
        assert os.listdir(f"{agent.layout.state}/bundles") == []
        assert os.listdir("/proc/self/fd") == before

    async def test_a_relative_path_is_refused(self, agent):
        with pytest.raises(GRPCError) as caught:
            await AgentService(agent).create_sandbox(pb.CreateSandboxRequest(guest_hook_path="hooks"))

        assert caught.value.status is Status.INVALID_ARGUMENT
