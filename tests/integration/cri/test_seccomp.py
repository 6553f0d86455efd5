"""seccomp profiles: the default one, one of the host's files, and none, where guests are told to apply them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from grpclib.exceptions import GRPCError

from protos.gen.runtime import v1 as api
from tests.harness.cri import Cri, Pod
from tests.harness.runtimes import KATA_SECCOMP, RUNC
from tests.integration.system.pods import linux, output, running

pytestmark = [pytest.mark.integration, pytest.mark.anyio]

RUNTIMES = (RUNC, KATA_SECCOMP)

#: What /proc/PID/status says: no filter, or one.
OFF, FILTERED = "0", "2"

Kind = api.SecurityProfileProfileType


@pytest.fixture
def profile(tmp_path: Path) -> str:
    """A profile that forbids one call, by which directories are made."""
    path = tmp_path / "profile.json"
    rule = {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95}
    path.write_text(
        json.dumps({"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"], "syscalls": [rule]})
    )
    return str(path)


@pytest.mark.parametrize(("kind", "mode"), [(Kind.RuntimeDefault, FILTERED), (Kind.Unconfined, OFF)])
async def test_a_profile_holds_for_the_container_and_for_commands(cri: Cri, pod: Pod, kind: Kind, mode: str) -> None:
    async with running(cri, pod, "one", linux=linux(seccomp=api.SecurityProfile(profile_type=kind))) as one:
        said = (await cri.exec(one, "grep", "-h", "Seccomp:", "/proc/1/status", "/proc/self/status")).text

    assert said.split() == ["Seccomp:", mode] * 2


async def test_the_default_profile_lets_programs_run_and_forbids_what_it_must(cri: Cri, pod: Pod) -> None:
    default = linux(seccomp=api.SecurityProfile(profile_type=Kind.RuntimeDefault))
    script = "mkdir /x && echo made; unshare -U true 2>&1 | grep -c 'not permitted'"

    assert (await output(cri, pod, "one", "sh", "-c", script, linux=default)).split() == ["made", "1"]


async def test_a_profile_of_the_host_s_files_forbids_what_it_says(cri: Cri, pod: Pod, profile: str) -> None:
    local = linux(seccomp=api.SecurityProfile(profile_type=Kind.Localhost, localhost_ref=profile))
    async with running(cri, pod, "one", linux=local) as one:
        done = await cri.exec(one, "sh", "-c", "touch /file && echo touched; mkdir /x")

    assert (done.exit_code, done.text) == (1, "touched")
    assert "not supported" in done.stderr.decode()


async def test_a_profile_that_is_not_there_fails_the_container(cri: Cri, pod: Pod, profile: str) -> None:
    missing = api.SecurityProfile(profile_type=Kind.Localhost, localhost_ref=profile + ".missing")
    with pytest.raises(GRPCError) as refused:
        await cri.create(pod, "missing", ["true"], linux=linux(seccomp=missing))

    assert "no such file" in (refused.value.message or "")
