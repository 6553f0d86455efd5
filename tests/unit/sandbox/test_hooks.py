"""Hooks on the host: their moments, their state, their environment, and what their failure means."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import anyio
import pytest

from sandbox import hooks, oci
from sandbox.errors import DeadlineError, SandboxError
from sandbox.interface import ExecRequest
from tests.fakes.world import PATIENCE, World

pytestmark = pytest.mark.anyio

SHELL = "/bin/sh"


def shell(script: str, **fields: object) -> dict[str, object]:
    """A hook that runs a script, as config.json has it."""
    return {"path": SHELL, "args": ["hook", "-c", script], "env": ["PATH=/usr/bin:/bin"], **fields}


def recorder(log: Path, word: str) -> dict[str, object]:
    """A hook that appends a word and its standard input to a file."""
    return shell(f"(printf '{word} '; cat; echo) >> {log}")


def recorded(log: Path) -> list[tuple[str, dict[str, object]]]:
    """What such hooks wrote: their words with the states they were given."""
    lines = [line.partition(" ") for line in log.read_text().splitlines()]
    return [(word, json.loads(text)) for word, _, text in lines]


async def run(hook: dict[str, object], directory: Path, document: dict[str, object] | None = None) -> None:
    await hooks.run_hook(oci.decode(json.dumps(hook).encode(), oci.Hook, "hook"), "the hook", document or {}, directory)


async def test_hooks_run_in_the_order_of_the_specification_with_the_container_s_state(world: World, tmp_path: Path):
    log = tmp_path / "log"
    kinds = ("poststop", "poststart", "createRuntime", "prestart")
    request = world.bundle("c1", hooks={kind: [recorder(log, kind), recorder(log, f"{kind}2")] for kind in kinds})
    world.agent.on_start("c1", exit_code=0)

    await world.sandbox.create(request, PATIENCE)
    made = [word for word, _ in recorded(log)]
    await world.sandbox.start("c1", "")
    started = [word for word, _ in recorded(log)][len(made) :]
    with anyio.fail_after(PATIENCE):
        await world.sandbox.wait("c1", "")
        await world.sandbox.delete("c1", "")

    assert made == ["prestart", "prestart2", "createRuntime", "createRuntime2"]
    assert started == ["poststart", "poststart2"]
    states = dict(recorded(log))
    common = {"ociVersion": "1.0.2", "id": "c1", "bundle": str(request.bundle), "annotations": {}}
    assert states["prestart"] == common | {"status": "creating", "pid": os.getpid()}
    assert states["poststart"] == common | {"status": "running", "pid": world.vm.pid}
    assert list(states)[-2:] == ["poststop", "poststop2"]
    assert states["poststop"] == common | {"status": "stopped"}


@pytest.mark.parametrize("kind", ["prestart", "createRuntime"])
async def test_a_failing_hook_fails_the_creation_with_what_it_said(world: World, tmp_path: Path, kind: str):
    log = tmp_path / "log"
    failing = shell("echo 'no such bridge' >&2; exit 3")
    request = world.bundle(
        "c1", hooks={kind: [failing, recorder(log, "late")], "poststop": [recorder(log, "poststop")]}
    )

    with pytest.raises(SandboxError) as caught:
        await world.sandbox.create(request, PATIENCE)

    assert str(caught.value) == f"{kind} hook /bin/sh of container c1 failed with exit status 3: no such bridge"
    assert [word for word, _ in recorded(log)] == ["poststop"]
    assert world.sandbox.is_empty
    assert world.names() == []
    assert world.sandbox.pod.machine is None


@pytest.mark.parametrize("kind", ["poststart", "poststop"])
async def test_a_failure_after_the_start_is_logged_and_changes_nothing(
    world: World, caplog: pytest.LogCaptureFixture, kind: str
):
    request = world.bundle("c1", hooks={kind: [shell("echo sorry; exit 1")]})
    world.agent.on_start("c1", exit_code=0)
    await world.sandbox.create(request, PATIENCE)
    await world.sandbox.start("c1", "")
    with anyio.fail_after(PATIENCE):
        await world.sandbox.wait("c1", "")

    assert (await world.sandbox.delete("c1", "")).exit_status == 0
    assert f"{kind} hook /bin/sh of container c1 failed with exit status 1: sorry" in caplog.text


async def test_execs_run_no_hooks(world: World, tmp_path: Path):
    log = tmp_path / "log"
    request = world.bundle("c1", hooks={"poststart": [recorder(log, "poststart")]})
    world.agent.on_start("c1")
    await world.sandbox.create(request, PATIENCE)
    await world.sandbox.start("c1", "")
    await world.sandbox.exec(ExecRequest("c1", "e1", b'{"args": ["true"], "cwd": "/"}'))
    await world.sandbox.start("c1", "e1")
    assert len(recorded(log)) == 1


async def test_a_hook_that_hangs_is_killed_with_all_it_started(tmp_path: Path):
    pids = tmp_path / "pids"
    hook = shell(f"sleep 1000 & echo $! > {pids}; echo waiting; wait", timeout=1)

    with pytest.raises(DeadlineError, match=r"the hook did not end within 1 s, and was killed: waiting"):
        await run(hook, tmp_path)

    child = Path("/proc", pids.read_text().strip(), "stat")
    with anyio.fail_after(PATIENCE):
        # A zombie, whose parent has gone, is nobody's any more.
        while child.exists() and child.read_text().rpartition(")")[2].split()[0] != "Z":
            await anyio.sleep(0.01)


async def test_a_creation_that_is_given_up_ends_its_hook(world: World, tmp_path: Path):
    pid = tmp_path / "pid"
    request = world.bundle("c1", hooks={"prestart": [shell(f"echo $$ > {pid}; exec sleep 1000")]})
    with pytest.raises(DeadlineError, match="phase hooks"):
        await world.sandbox.create(request, 1.0)
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)


async def test_a_hook_gets_its_own_environment_arguments_and_directory(tmp_path: Path):
    out = tmp_path / "out"
    script = shell(f'echo "$0 $1 $MINE" > {out}; pwd >> {out}; env | cut -d= -f1 >> {out}')
    script["args"] = [*script["args"], "zero", "one"]  # type: ignore[misc]
    script["env"] = ["PATH=/usr/bin:/bin", "MINE=1=2"]
    await run(script, tmp_path)
    first, directory, *names = out.read_text().splitlines()
    assert (first, directory) == ("zero one 1=2", str(tmp_path))
    assert set(names) <= {"PATH", "MINE", "PWD", "OLDPWD", "SHLVL", "_"}


async def test_a_hook_s_first_argument_is_its_name(tmp_path: Path):
    out = tmp_path / "out"
    await run({"path": SHELL, "args": ["myname", "-c", f"cat /proc/$$/cmdline > {out}; :"]}, tmp_path)
    assert out.read_bytes().split(b"\0")[0] == b"myname"


async def test_the_state_may_be_larger_than_a_pipe_and_need_not_be_read(tmp_path: Path):
    document = {"annotations": {"big": "x" * 300_000}}
    out = tmp_path / "out"
    await run(shell("exit 0"), tmp_path, document)
    await run(shell(f"cat > {out}"), tmp_path, document)
    assert json.loads(out.read_text()) == document


@pytest.mark.parametrize(
    ("mode", "problem"),
    [(None, "no such program"), (0o644, "not executable"), (0o755, "neither an ELF program nor a script")],
)
async def test_a_hook_that_can_t_be_run_is_named(tmp_path: Path, mode: int | None, problem: str):
    path = tmp_path / "hook"
    if mode is not None:
        path.write_text("true\n")
        path.chmod(mode)
    with pytest.raises(SandboxError, match=f"the hook: {path}: {problem}"):
        await run({"path": str(path)}, tmp_path)


async def test_a_killed_hook_and_a_flood_of_words_make_one_bounded_line(tmp_path: Path):
    with pytest.raises(SandboxError) as caught:
        await run(shell("yes 'word\x1b' | head -c 200000; kill -9 $$"), tmp_path)
    assert str(caught.value).startswith(f"the hook was killed by signal {signal.SIGKILL.value}: ")
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 1200


async def test_a_network_namespace_that_is_not_there_is_named(tmp_path: Path):
    with pytest.raises(SandboxError, match="/run/netns/gone"):
        await hooks.run_hook(oci.Hook(SHELL, ["sh", "-c", "true"]), "the hook", {}, tmp_path, "/run/netns/gone")


def test_the_network_namespace_is_the_one_with_a_path():
    namespaces = [oci.Namespace("pid", "/proc/1/ns/pid"), oci.Namespace("network", "/run/netns/x")]
    assert hooks.network_namespace(oci.Spec(oci.Root("r"), linux=oci.Linux(namespaces=namespaces))) == "/run/netns/x"
    assert hooks.network_namespace(oci.Spec(oci.Root("r"), linux=oci.Linux([oci.Namespace("network")]))) == ""
