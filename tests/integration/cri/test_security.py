"""The security context of pods and containers: the same under both runtimes."""

from __future__ import annotations

from typing import Any

import pytest
from grpclib.exceptions import GRPCError

from protos.gen.runtime import v1 as api
from tests.harness.cri import Container, Cri, Pod
from tests.integration.cri.conftest import SYSCTLS
from tests.integration.system.pods import linux, output, pod_linux, running

pytestmark = [pytest.mark.integration, pytest.mark.anyio]

#: What kubelet sends for a container whose procMount is Default.
MASKED = ["/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware"]
READ_ONLY = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]

#: CRI's default set, and single capabilities, as bits (capabilities(7)).
DEFAULT = 0xA80425FB
CHOWN, KILL, NET_ADMIN, SYS_TIME = 1 << 0, 1 << 5, 1 << 12, 1 << 25


def _value(number: int) -> api.Int64Value:
    return api.Int64Value(value=number)


async def _status(cri: Cri, pod: Pod, **security: Any) -> dict[str, str]:
    """/proc/self/status of a container's process, by field."""
    text = await output(cri, pod, "one", "cat", "/proc/self/status", linux=linux(**security))
    return {key: value.strip() for key, _, value in (line.partition(":") for line in text.splitlines())}


@pytest.mark.parametrize(
    ("security", "ids"),
    [
        ({}, ["0", "0", "0"]),
        ({"run_as_user": _value(1000)}, ["1000", "1000", "1000 2000"]),
        ({"run_as_user": _value(1234)}, ["1234", "0", "0"]),
        ({"run_as_user": _value(1000), "run_as_group": _value(3000)}, ["1000", "3000", "2000 3000"]),
        ({"run_as_username": "app"}, ["1000", "1000", "1000 2000"]),
        (
            {"run_as_username": "app", "run_as_group": _value(3000), "supplemental_groups": [2500, 2600]},
            ["1000", "3000", "2000 2500 2600 3000"],
        ),
        ({"run_as_user": _value(2147483647)}, ["2147483647", "0", "0"]),
    ],
    ids=str,
)
async def test_a_container_and_what_is_run_in_it_are_who_they_are_to_be(
    cri: Cri, pod: Pod, security: dict[str, Any], ids: list[str]
) -> None:
    script = "id -u; id -g; id -G | tr ' ' '\\n' | sort -nu | xargs"
    async with running(cri, pod, "one", linux=linux(**security)) as one:
        own = (await cri.exec(one, "sh", "-c", "stat -c '%u %g' /proc/1")).text.split()
        asked = (await cri.exec(one, "sh", "-c", script)).text.splitlines()

    assert own == ids[:2]
    assert asked == ids


async def test_a_user_that_the_image_does_not_have_is_refused_by_name(cri: Cri, pod: Pod) -> None:
    with pytest.raises(GRPCError) as refused:
        await cri.create(pod, "nobody-knows", ["true"], linux=linux(run_as_username="stranger"))

    assert "no users found" in (refused.value.message or "")


@pytest.mark.parametrize(
    ("capability", "bits"),
    [
        (api.Capability(), DEFAULT),
        (api.Capability(add_capabilities=["NET_ADMIN", "SYS_TIME"]), DEFAULT | NET_ADMIN | SYS_TIME),
        (api.Capability(drop_capabilities=["CHOWN", "KILL"]), DEFAULT & ~(CHOWN | KILL)),
        (api.Capability(drop_capabilities=["ALL"]), 0),
        (api.Capability(drop_capabilities=["ALL"], add_capabilities=["KILL"]), KILL),
    ],
    ids=["default", "add", "drop", "drop all", "drop all but one"],
)
async def test_capabilities_are_what_is_asked_for_in_commands_too(
    cri: Cri, pod: Pod, capability: api.Capability, bits: int
) -> None:
    command = ("grep", "-E", "^Cap(Prm|Eff|Bnd)", "/proc/self/status")
    async with running(cri, pod, "one", linux=linux(capabilities=capability)) as one:
        init = (await cri.exec(one, *command[:-1], "/proc/1/status")).text
        command_s = (await cri.exec(one, *command)).text

    assert init == command_s
    assert [int(line.split()[1], 16) for line in init.splitlines()] == [bits] * 3


async def test_all_capabilities_are_those_that_the_runtime_has(cri: Cri, pod: Pod) -> None:
    status = await _status(cri, pod, capabilities=api.Capability(add_capabilities=["ALL"]))
    bits = int(status["CapEff"], 16)

    assert bits & (DEFAULT | NET_ADMIN | SYS_TIME) == DEFAULT | NET_ADMIN | SYS_TIME


async def test_who_is_not_root_has_bounds_and_no_powers(cri: Cri, pod: Pod) -> None:
    status = await _status(cri, pod, run_as_user=_value(1000))

    assert (int(status["CapEff"], 16), int(status["CapBnd"], 16)) == (0, DEFAULT)


@pytest.mark.parametrize("no_new_privs", [True, False])
async def test_no_new_privileges_holds_for_commands_too(cri: Cri, pod: Pod, no_new_privs: bool) -> None:
    async with running(cri, pod, "one", linux=linux(no_new_privs=no_new_privs)) as one:
        said = (await cri.exec(one, "grep", "-h", "NoNewPrivs", "/proc/1/status", "/proc/self/status")).text

    assert said.split() == ["NoNewPrivs:", str(int(no_new_privs))] * 2


async def test_a_root_file_system_is_read_only_and_the_rest_is_not(cri: Cri, pod: Pod) -> None:
    script = "touch /x /etc/x 2>&1 | grep -c 'Read-only file system'; touch /dev/shm/x && rm /dev/shm/x && echo shm"
    said = await output(cri, pod, "one", "sh", "-c", script, linux=linux(readonly_rootfs=True))

    assert said.split() == ["2", "shm"]


async def test_paths_are_masked_and_read_only_as_asked(cri: Cri, pod: Pod) -> None:
    script = """
        cat /proc/kcore /proc/timer_list 2>/dev/null | head -c 10 | wc -c
        ls /sys/firmware | wc -l
        for path in /proc/sys/kernel/domainname /proc/sysrq-trigger; do
            echo x 2>/dev/null > $path || echo refused
        done
    """
    context = linux(masked_paths=MASKED, readonly_paths=READ_ONLY)
    said = await output(cri, pod, "one", "sh", "-c", script, linux=context)

    assert said.split() == ["0", "0", "refused", "refused"]


async def test_an_unmasked_proc_is_whole(cri: Cri, pod: Pod) -> None:
    assert await output(cri, pod, "one", "sh", "-c", "grep -c ' /proc/' /proc/mounts; true") == "0"


async def test_sysctls_of_the_pod_hold(cri: Cri, box: Container) -> None:
    paths = [f"/proc/sys/{key.replace('.', '/')}" for key in SYSCTLS]

    assert (await cri.exec(box, "cat", *paths)).text.splitlines() == list(SYSCTLS.values())


async def test_a_sysctl_that_there_is_not_fails_the_pod(cri: Cri) -> None:
    with pytest.raises(GRPCError) as refused:
        await _run_with_sysctl(cri, "net.no_such_key")

    assert "no_such_key" in (refused.value.message or "")


async def _run_with_sysctl(cri: Cri, name: str) -> None:
    pod = await cri.run_pod("wrong", linux=pod_linux(sysctls={name: "1"}))
    # A pod of the Sandbox API has no process of its own: it is its containers that fail.
    try:
        await cri.run(pod, "one", "true")
    finally:
        await cri.stop_pod(pod)
        await cri.remove_pod(pod)


@pytest.mark.parametrize(
    "security",
    [
        {"selinux_options": api.SeLinuxOption(user="u", role="r", type="t", level="s0:c1,c2")},
        {"apparmor_profile": "unconfined"},
        {"apparmor": api.SecurityProfile(profile_type=api.SecurityProfileProfileType.Unconfined)},
    ],
    ids=["selinux", "apparmor unconfined", "apparmor profile"],
)
async def test_labels_of_modules_that_nobody_has_change_nothing(cri: Cri, pod: Pod, security: dict[str, Any]) -> None:
    assert await output(cri, pod, "one", "echo", "runs", linux=linux(**security)) == "runs"


async def test_the_files_of_the_pod_are_its_containers_(cri: Cri, pod: Pod, box: Container) -> None:
    script = "hostname; cat /etc/hostname; grep -c localhost /etc/hosts; cat /etc/resolv.conf | wc -c"
    lines = (await cri.exec(box, "sh", "-c", script)).text.splitlines()

    assert lines[:2] == [pod.config.hostname] * 2
    assert int(lines[2]) >= 1
    assert int(lines[3]) > 0
