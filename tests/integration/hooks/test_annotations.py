"""Pod annotations: what a real guest shows of them, and refusals before anything is started."""

from __future__ import annotations

from pathlib import Path

import pytest
from grpclib.const import Status
from grpclib.exceptions import GRPCError

from protos import anys
from protos.gen.containerd.task.v2 import DeleteRequest, WaitRequest
from protos.gen.runtimeoptions.v1 import Options
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

POD = "annotated"
_KATA = "io.katacontainers.config."
_VM = f"{_KATA}hypervisor."

#: Memory in MiB that a pod asks for, and the least of it that its guest must see.
_MEMORY, _SEEN = 384, 256

_LOOK = f"""
grep -q 'katahooks=42' /proc/cmdline || exit 11
[ "$(grep -c ^processor /proc/cpuinfo)" = 2 ] || exit 12
memory=$(sed -n 's/MemTotal: *\\([0-9]*\\) kB/\\1/p' /proc/meminfo)
[ "$memory" -gt {_SEEN << 10} ] && [ "$memory" -le {_MEMORY << 10} ] || exit 13
exit 7
"""


def make(direct: Direct, *command: str, **annotations: str) -> None:
    """The pod's bundle with these annotations."""
    direct.bundle(POD, bundles.spec(command or ("sleep", "1000"), pod_annotations(POD) | annotations))


def vm(**values: str) -> dict[str, str]:
    """Annotations about the VM."""
    return {_VM + key: value for key, value in values.items()}


async def test_the_guest_shows_what_the_pod_asked_for(direct: Direct) -> None:
    asked = vm(default_memory=str(_MEMORY), default_vcpus="2", kernel_params="katahooks=42")
    make(direct, "sh", "-c", _LOOK, **asked)
    async with connect(direct.start_bundle(POD)) as task:
        await task.create(direct.request(POD), timeout=BOOT_TIMEOUT)
        await start(task, POD)
        assert (await task.wait(WaitRequest(id=POD), timeout=CALL_TIMEOUT)).exit_status == 7
        await task.delete(DeleteRequest(id=POD), timeout=CALL_TIMEOUT)
        await shut_down(task)


REFUSED = {
    "one that is not enabled": (vm(machine_type="q35"), Status.FAILED_PRECONDITION, ("enable_annotations",)),
    "a path outside of its list": (
        vm(entropy_source="/dev/sda"),
        Status.FAILED_PRECONDITION,
        ("/dev/sda is not allowed", "valid_entropy_sources"),
    ),
    "a path that climbs": (vm(entropy_source="/dev/urandom/../sda"), Status.INVALID_ARGUMENT, ("'..'",)),
    "a number that is none": (vm(default_memory="lots"), Status.INVALID_ARGUMENT, ("whole number",)),
    "too little memory": (vm(default_memory="1"), Status.INVALID_ARGUMENT, ("from 128",)),
    "one that nobody knows": (vm(default_memroy="512"), Status.INVALID_ARGUMENT, ("did you mean", "default_memory")),
    "another runtime's feature": (
        {f"{_KATA}runtime.disable_new_netns": "true"},
        Status.FAILED_PRECONDITION,
        ("is not supported",),
    ),
    "a configuration of its own": (
        {"io.katacontainers.config_path": "/tmp/evil/configuration.toml"},
        Status.FAILED_PRECONDITION,
        ("is not allowed",),
    ),
}


@pytest.mark.parametrize("case", REFUSED)
async def test_a_refused_annotation_fails_the_pod_with_its_name(direct: Direct, case: str) -> None:
    annotations, status, words = REFUSED[case]
    make(direct, **annotations)
    async with connect(direct.start_bundle(POD)) as task:
        with pytest.raises(GRPCError) as caught:
            await task.create(direct.request(POD), timeout=CALL_TIMEOUT)
        message = str(caught.value.message)
        assert caught.value.status is status, message
        assert all(word in message for word in (*annotations, *words)), message
        assert message.isprintable()
        await shut_down(task)


async def test_a_configuration_may_come_in_the_options_themselves(direct: Direct, configuration: Path) -> None:
    """containerd 1.7 and later send the table of options when it names no file."""
    make(direct)
    async with connect(direct.start_bundle(POD)) as task:
        nonsense = anys.pack(Options(config_body=b"[hypervisor.qemu]\ndefault_memroy = 1\n"))
        with pytest.raises(GRPCError, match="options of the runtime") as caught:
            await task.create(direct.request(POD, options=nonsense), timeout=CALL_TIMEOUT)
        assert "default_memory" in str(caught.value.message)

        body = b"SystemdCgroup = true\n" + configuration.read_bytes()
        await task.create(direct.request(POD, options=anys.pack(Options(config_body=body))), timeout=BOOT_TIMEOUT)
        await start(task, POD)
        await end(task, POD)
        await shut_down(task)
