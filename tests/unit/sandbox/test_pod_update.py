"""Contract: an update changes what it names of a pod's spec, and makes no other pod of it."""

from __future__ import annotations

import pytest

from sandbox.errors import FailedPreconditionError
from sandbox.oci import Cpu, Memory, Resources, Root, Spec
from sandbox.pod_update import updated_spec

QUOTA, PERIOD, SHARES, MEMORY = (
    f"io.kubernetes.cri.sandbox-{name}" for name in ("cpu-quota", "cpu-period", "cpu-shares", "memory")
)
KIND = "io.kubernetes.cri.container-type"
VMM = "io.katacontainers.config.hypervisor.default_memory"


def spec(**annotations: str) -> Spec:
    return Spec(root=Root("rootfs"), annotations={KIND: "sandbox", MEMORY: "100", QUOTA: "5", **annotations})


def test_limits_become_sizing_annotations_and_the_rest_stays():
    new = updated_spec(spec(mine="1"), Resources(memory=Memory(limit=200)), {"mine": "2", "other": "3"}, True)

    assert new.annotations == {KIND: "sandbox", MEMORY: "200", QUOTA: "5", "mine": "2", "other": "3"}


@pytest.mark.parametrize(
    ("cpu", "expected"),
    [
        (Cpu(quota=20_000, period=10_000), {QUOTA: "20000", PERIOD: "10000"}),
        (Cpu(quota=20_000), {QUOTA: "20000", PERIOD: "100000"}),
        (Cpu(quota=-1, shares=2048), {QUOTA: "-1", PERIOD: "100000", SHARES: "2048"}),
        (Cpu(cpus="0-3"), {QUOTA: "5"}),
    ],
)
def test_cpu_limits_are_those_that_cri_would_write(cpu: Cpu, expected: dict[str, str]):
    new = updated_spec(spec(), Resources(cpu=cpu), {}, True)

    assert {key: value for key, value in new.annotations.items() if "cpu" in key} == expected


def test_resources_win_over_annotations():
    new = updated_spec(spec(), Resources(memory=Memory(limit=200)), {MEMORY: "300"}, True)

    assert new.annotations[MEMORY] == "200"


@pytest.mark.parametrize(("name", "is_up"), [(KIND, False), (KIND, True), (VMM, True)])
def test_what_can_not_change_is_refused_by_its_name(name: str, is_up: bool):
    with pytest.raises(FailedPreconditionError, match=name):
        updated_spec(spec(), None, {name: "other"}, is_up)


def test_what_is_said_again_is_no_change_and_a_vm_that_is_not_up_can_take_on_all():
    assert updated_spec(spec(), None, {KIND: "sandbox"}, True) == spec()
    assert updated_spec(spec(), None, {VMM: "512"}, False).annotations[VMM] == "512"
