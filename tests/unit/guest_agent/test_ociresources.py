"""From the protocol's resources to the runtime-spec's, for cgroup v2."""

from __future__ import annotations

import pytest

from guest.agent.errors import InvalidArgumentError
from guest.agent.ociresources import cpu_set, resources_json
from protos.lean.gen.grpc import (
    LinuxBlockIo,
    LinuxCpu,
    LinuxDeviceCgroup,
    LinuxHugepageLimit,
    LinuxMemory,
    LinuxNetwork,
    LinuxPids,
    LinuxResources,
    LinuxThrottleDevice,
    LinuxWeightDevice,
)

CPUS = frozenset({0, 1})


def convert(**fields):
    return resources_json(LinuxResources(**fields), CPUS)


def test_nothing_asked_for_is_nothing_set():
    assert resources_json(None, CPUS) == {}
    assert convert(memory=LinuxMemory(), cpu=LinuxCpu(), pids=LinuxPids(), block_io=LinuxBlockIo()) == {}


def test_memory_limits_are_kept_and_knobs_of_v1_dropped():
    memory = LinuxMemory(
        limit=10, reservation=5, swap=-1, kernel=7, kernel_tcp=8, swappiness=60, disable_oom_killer=True
    )

    assert convert(memory=memory) == {"memory": {"limit": 10, "reservation": 5, "swap": -1}}


def test_cpu_limits_are_kept_and_real_time_dropped():
    cpu = LinuxCpu(shares=512, quota=50000, period=100000, realtime_runtime=1, realtime_period=2, cpus="0-1", mems="0")

    assert convert(cpu=cpu) == {"cpu": {"shares": 512, "quota": 50000, "period": 100000, "cpus": "0-1", "mems": "0"}}


def test_a_cpuset_of_the_hosts_cpus_is_left_out():
    assert convert(cpu=LinuxCpu(cpus="0-7", mems="0-1")) == {}


def test_pids_and_huge_pages_are_kept():
    limits = convert(pids=LinuxPids(limit=-1), hugepage_limits=[LinuxHugepageLimit(pagesize="2MB", limit=4)])

    assert limits == {"pids": {"limit": -1}, "hugepageLimits": [{"pageSize": "2MB", "limit": 4}]}


def test_network_classes_are_dropped():
    assert convert(network=LinuxNetwork(class_id=1)) == {}


def test_block_limits_are_kept():
    throttle = LinuxThrottleDevice(major=254, minor=0, rate=100)
    block = LinuxBlockIo(
        weight=500,
        leaf_weight=3,
        weight_device=[LinuxWeightDevice(major=254, minor=0, weight=200, leaf_weight=1)],
        throttle_read_bps_device=[throttle],
        throttle_write_iops_device=[throttle],
    )
    rate = {"major": 254, "minor": 0, "rate": 100}

    assert convert(block_io=block)["blockIO"] == {
        "weight": 500,
        "weightDevice": [{"major": 254, "minor": 0, "weight": 200}],
        "throttleReadBpsDevice": [rate],
        "throttleWriteIOPSDevice": [rate],
    }


def test_device_rules_are_kept_with_any_for_negative_numbers():
    rules = [
        LinuxDeviceCgroup(allow=False, access="rwm"),
        LinuxDeviceCgroup(allow=True, type="c", major=136, minor=-1, access="rw"),
    ]

    assert convert(devices=rules)["devices"] == [
        {"allow": False, "type": "a", "access": "rwm"},
        {"allow": True, "type": "c", "access": "rw", "major": 136, "minor": -1},
    ]


@pytest.mark.parametrize("rule", [LinuxDeviceCgroup(type="x"), LinuxDeviceCgroup(access="rwx")])
def test_a_malformed_device_rule_is_refused(rule):
    with pytest.raises(InvalidArgumentError):
        convert(devices=[rule])


@pytest.mark.parametrize(("text", "numbers"), [("0", {0}), ("0-2,5", {0, 1, 2, 5}), ("3\n", {3}), ("2-1", set())])
def test_cpu_lists_are_understood(text, numbers):
    assert cpu_set(text) == numbers


@pytest.mark.parametrize("text", ["", "a", "1-", "-1", "1,,2", "0-99999999", "1-2-3"])
def test_a_malformed_cpu_list_is_refused(text):
    with pytest.raises(InvalidArgumentError):
        cpu_set(text)


def test_unified_resources_are_passed_as_they_are():
    files = {"memory.high": "5", "io.max": "8:0 rbps=1", "hugetlb.2MB.max": "0"}

    assert convert(unified=files) == {"unified": files}


@pytest.mark.parametrize(
    "files",
    [
        {"../memory.max": "1"},
        {"memory": "1"},
        {"a/b.c": "1"},
        {"": "1"},
        {"cgroup.procs": "1"},
        {"a.b": "x" * 5000},
        {f"memory.x{number}": "1" for number in range(65)},
    ],
)
def test_unified_resources_that_are_no_files_of_a_controller_are_refused(files):
    with pytest.raises(InvalidArgumentError, match="unified resource"):
        convert(unified=files)
