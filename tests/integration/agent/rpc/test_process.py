"""Inits and execs get what their OCI process asks for, nothing more, in a live guest."""

from __future__ import annotations

import json
from typing import Any

import pytest

from protos.gen import grpc as pb
from tests.harness.live_guest import STANDING, Live, process, spec

pytestmark = [pytest.mark.integration, pytest.mark.anyio]

KINDS = ("init", "exec")


async def run(guest: Live, kind: str, what: pb.Process) -> Any:
    """As the init of a container of its own, or as an exec in the one that stands."""
    return await (guest.run(what) if kind == "init" else guest.exec(what))


@pytest.mark.parametrize("kind", KINDS)
async def test_user_groups_directory_environment_and_limits(guest: Live, kind: str):
    what = process(
        *("sh", "-c", "id -u; id -g; id -G; pwd; echo $GREETING; ulimit -n; ulimit -Hn"),
        user=pb.User(uid=1234, gid=2345, additional_gids=[3456, 4567]),
        cwd="/tmp",
        env=["PATH=/bin", "GREETING=good day"],
        rlimits=[pb.PosixRlimit(type="RLIMIT_NOFILE", soft=77, hard=99)],
    )

    output = await run(guest, kind, what)

    lines = output.stdout.splitlines()
    assert (output.status, output.stderr) == (0, "")
    assert lines[:2] == ["1234", "2345"]
    assert set(lines[2].split()) == {"2345", "3456", "4567"}
    assert lines[3:] == ["/tmp", "good day", "77", "99"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("flag", [True, False])
async def test_capabilities_and_no_new_privileges(guest: Live, kind: str, flag: bool):
    # CAP_CHOWN is bit 0, CAP_KILL bit 5, CAP_NET_RAW bit 13.
    both = ["CAP_CHOWN", "CAP_KILL"]
    capabilities = pb.LinuxCapabilities(
        bounding=[*both, "CAP_NET_RAW"], effective=both, permitted=both, inheritable=[], ambient=[]
    )
    what = process("cat", "/proc/self/status", capabilities=capabilities, no_new_privileges=flag)

    status = dict(line.split(":\t", 1) for line in (await run(guest, kind, what)).stdout.splitlines() if ":\t" in line)

    assert int(status["CapBnd"], 16) == 1 << 0 | 1 << 5 | 1 << 13
    # Root gains what its bounds allow by execve; the ambient set stays as asked for.
    assert int(status["CapEff"], 16) & ~int(status["CapBnd"], 16) == 0
    assert int(status["CapAmb"], 16) == 0
    assert status["NoNewPrivs"].strip() == str(int(flag))


@pytest.mark.parametrize("kind", KINDS)
async def test_an_ordinary_user_has_the_ambient_capabilities_it_is_given(guest: Live, kind: str):
    one = ["CAP_NET_RAW"]
    capabilities = pb.LinuxCapabilities(bounding=one, effective=one, permitted=one, inheritable=one, ambient=one)
    what = process("cat", "/proc/self/status", capabilities=capabilities, user=pb.User(uid=1000, gid=1000))

    status = dict(line.split(":\t", 1) for line in (await run(guest, kind, what)).stdout.splitlines() if ":\t" in line)

    assert {int(status[name], 16) for name in ("CapEff", "CapPrm", "CapAmb", "CapBnd")} == {1 << 13}


@pytest.mark.parametrize("kind", KINDS)
async def test_a_terminal_has_the_size_of_the_process_and_follows_resizes(guest: Live, kind: str):
    what = process(
        *("sh", "-c", "stty size; read x; stty size; echo $x; [ -t 0 ] && [ -t 1 ] && [ -t 2 ]"),
        terminal=True,
        console_size=pb.Box(height=31, width=97),
    )
    container, exec_id = await _begin(guest, kind, what)
    first = await guest.agent.read_stdout(container, exec_id, 4096)
    while b"\n" not in first:
        first += await guest.agent.read_stdout(container, exec_id, 4096)

    await guest.agent.tty_win_resize(container, exec_id, 13, 43)
    await guest.agent.write_stdin(container, exec_id, b"typed\n")
    output = await guest.output(container, exec_id)

    assert first == b"31 97\r\n"
    assert output.status == 0
    assert output.stdout.split() == ["typed", "13", "43", "typed"]
    if kind == "init":
        await guest.agent.remove_container(container)


async def test_the_pids_of_a_container_are_its_processes(guest: Live):
    _, exec_id = await _begin(guest, "exec", process("sleep", "1000"))

    listed = await guest.agent.upkeep.get_diagnostic_data("processes", STANDING)

    found = {item["exec_id"]: item["command"] for item in json.loads(listed)}
    assert (found[""], found[exec_id]) == ("sleep 100000", "sleep 1000")
    await guest.agent.signal_process(STANDING, exec_id, 9)
    assert await guest.agent.wait_process(STANDING, exec_id) == 137


async def _begin(guest: Live, kind: str, what: pb.Process) -> tuple[str, str]:
    name = guest.name()
    if kind == "exec":
        await guest.agent.exec_process(container_id=STANDING, exec_id=name, process=what)
        return STANDING, name
    await guest.agent.create_container(container_id=name, oci=spec(what))
    await guest.agent.start_container(name)
    return name, ""
