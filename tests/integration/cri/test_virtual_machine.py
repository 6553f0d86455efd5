"""Where a pod in a VM differs from one on the host: what is the host's stays the host's, and is refused by name."""

from __future__ import annotations

import pytest
from grpclib.exceptions import GRPCError

from protos.gen.runtime import v1 as api
from tests.harness.cri import Cri, Pod
from tests.harness.runtimes import KATA, KATA_HOST_DEVICES
from tests.integration.system.pods import linux, output, running

pytestmark = [pytest.mark.integration, pytest.mark.anyio]

#: Under the second, containerd puts every device of the host into the spec of a privileged container.
RUNTIMES = (KATA, KATA_HOST_DEVICES)

PRIVILEGED_POD = api.LinuxSandboxSecurityContext(
    privileged=True, namespace_options=api.NamespaceOption(pid=api.NamespaceMode.CONTAINER)
)
POD = {"linux": api.LinuxPodSandboxConfig(security_context=PRIVILEGED_POD)}

CAP_SYS_ADMIN = 1 << 21


async def test_a_privileged_container_is_so_in_the_guest_alone(cri: Cri, pod: Pod) -> None:
    script = """
        grep CapEff /proc/self/status
        mkdir /tmp/there && mount -t tmpfs none /tmp/there && echo mounted
        echo guest > /proc/sys/kernel/domainname && cat /proc/sys/kernel/domainname
        echo 1 > /sys/kernel/mm/lru_gen/enabled 2>/dev/null; touch /sys/fs/cgroup/cgroup.procs && echo writable
    """
    lines = (await output(cri, pod, "one", "sh", "-c", script, linux=linux(privileged=True))).splitlines()

    assert int(lines[0].split()[1], 16) & CAP_SYS_ADMIN
    assert lines[1:] == ["mounted", "guest", "writable"]


async def test_no_device_of_the_host_is_in_a_privileged_container(cri: Cri, pod: Pod) -> None:
    async with running(cri, pod, "one", linux=linux(privileged=True)) as one:
        devices = (await cri.exec(one, "sh", "-c", "find /dev -type b | wc -l; ls /dev")).text.splitlines()

    assert devices[0] == "0"
    assert {"null", "zero", "full", "random", "urandom", "tty"} <= set(devices[1:])
    assert not {"kvm", "mem", "port", "kmsg", "loop-control", "rtc0"} & set(devices[1:])


@pytest.mark.parametrize(
    ("options", "wish"),
    [
        (api.NamespaceOption(pid=api.NamespaceMode.NODE), "hostPID"),
        (api.NamespaceOption(ipc=api.NamespaceMode.NODE), "hostIPC"),
    ],
    ids=["pid", "ipc"],
)
async def test_namespaces_of_the_host_are_refused_by_name(cri: Cri, options: api.NamespaceOption, wish: str) -> None:
    context = api.LinuxSandboxSecurityContext(namespace_options=options)
    with pytest.raises(GRPCError) as refused:
        await cri.run_pod("asks", linux=api.LinuxPodSandboxConfig(security_context=context))

    assert wish in (refused.value.message or "")


async def test_one_container_s_processes_are_not_shown_to_another_under_a_false_name(cri: Cri, pod: Pod) -> None:
    async with running(cri, pod, "one") as one:
        options = api.NamespaceOption(pid=api.NamespaceMode.TARGET, target_id=one.id)
        security = api.LinuxContainerSecurityContext(namespace_options=options)
        debugger = await cri.create(pod, "debugger", ["ps"], linux=api.LinuxContainerConfig(security_context=security))
        with pytest.raises(GRPCError) as refused:
            await cri.start(debugger)
        await cri.remove(debugger)

        assert "--target" in (refused.value.message or "")
        assert (await cri.exec(one, "echo", "alive")).text == "alive"
