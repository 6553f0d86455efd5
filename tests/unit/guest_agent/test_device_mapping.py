"""Devices in the container's config: the guest's numbers, the cgroup's rules, the root disk kept out."""

from __future__ import annotations

import pytest

from guest.agent.devices import environment, mapping
from guest.agent.devices.mapping import DeviceUpdate
from guest.agent.errors import InvalidArgumentError

ROOT = frozenset({(254, 0), (254, 1)})
DENY_ALL = {"allow": False, "type": "a", "access": "rwm"}


def config(*devices, rules=None):
    resources = {} if rules is None else {"devices": list(rules)}
    return {"linux": {"devices": list(devices), "resources": resources}, "process": {"env": []}}


def device(path, major, minor, kind="b"):
    return {"path": path, "type": kind, "major": major, "minor": minor, "uid": 5, "gid": 6}


def rule(major, minor, allow=True, access="rwm", kind="b"):
    return {"allow": allow, "type": kind, "major": major, "minor": minor, "access": access}


def test_a_device_gets_the_guests_numbers_and_keeps_its_owner():
    spec = config(device("/dev/xvda", 8, 0))

    mapping.apply(spec, [DeviceUpdate("/dev/xvda", "b", 254, 16)])

    assert spec["linux"]["devices"] == [device("/dev/xvda", 254, 16)]
    assert spec["linux"]["resources"]["devices"] == [rule(254, 16)]


def test_a_device_that_the_spec_lacks_is_made():
    spec = config()

    mapping.apply(spec, [DeviceUpdate("/dev/data", "b", 254, 16)])

    made = spec["linux"]["devices"][0]
    assert (made["path"], made["type"], made["major"], made["minor"]) == ("/dev/data", "b", 254, 16)


def test_a_device_may_go_to_another_path():
    spec = config(device("/dev/vfio/9", 240, 9, "c"))

    mapping.apply(spec, [DeviceUpdate("/dev/vfio/9", "c", 511, 0, final_path="/dev/vfio/0")])

    assert spec["linux"]["devices"][0]["path"] == "/dev/vfio/0"


def test_the_hosts_rule_for_a_device_becomes_the_guests_with_its_access():
    spec = config(device("/dev/xvda", 8, 0), rules=[DENY_ALL, rule(8, 0, access="r"), rule(8, 16)])

    mapping.apply(spec, [DeviceUpdate("/dev/xvda", "b", 254, 16)])

    assert spec["linux"]["resources"]["devices"] == [DENY_ALL, rule(254, 16, access="r"), rule(8, 16)]


def test_numbers_that_are_the_hosts_of_one_and_the_guests_of_another_do_not_mix():
    spec = config(device("/dev/a", 8, 0), device("/dev/b", 8, 16), rules=[rule(8, 0), rule(8, 16, access="r")])

    mapping.apply(spec, [DeviceUpdate("/dev/a", "b", 8, 16), DeviceUpdate("/dev/b", "b", 8, 0)])

    assert spec["linux"]["resources"]["devices"] == [rule(8, 16), rule(8, 0, access="r")]


def test_one_container_path_has_one_device():
    with pytest.raises(InvalidArgumentError, match="twice"):
        mapping.apply(config(), [DeviceUpdate("/dev/a", "b", 1, 1), DeviceUpdate("/dev/a", "b", 1, 2)])


def test_one_device_of_the_host_is_one_of_the_guest():
    spec = config(device("/dev/a", 8, 0), device("/dev/b", 8, 0))

    with pytest.raises(InvalidArgumentError, match="two devices"):
        mapping.apply(spec, [DeviceUpdate("/dev/a", "b", 1, 1), DeviceUpdate("/dev/b", "b", 1, 2)])


def test_the_root_disk_is_left_out_and_denied_last():
    spec = config(device("/dev/stolen", 254, 1), device("/dev/fine", 254, 16), rules=[rule(254, 0), DENY_ALL])

    mapping.guard(spec, ROOT)

    assert [entry["path"] for entry in spec["linux"]["devices"]] == ["/dev/fine"]
    assert spec["linux"]["resources"]["devices"][-2:] == [rule(254, 0, allow=False), rule(254, 1, allow=False)]


def test_a_character_device_with_the_root_disks_numbers_is_another_device():
    spec = config(device("/dev/tty", 254, 0, "c"), rules=[DENY_ALL])

    mapping.guard(spec, ROOT)

    assert len(spec["linux"]["devices"]) == 1


def test_a_container_without_rules_gets_its_own_devices_only():
    spec = config(device("/dev/fuse", 10, 229, "c"), device("/dev/pipe", 0, 0, "p"))

    mapping.guard(spec, frozenset())

    assert spec["linux"]["resources"]["devices"] == [DENY_ALL, rule(10, 229, kind="c")]


class TestEnvironment:
    ADDRESSES = {"0000:3b:00.0": "0000:01:03.0", "0000:01:03.0": "0000:01:04.0"}

    def test_addresses_are_the_guests_and_are_translated_once(self):
        entries = ["PCIDEVICE_NIC=0000:3B:00.0,0000:01:03.0", "PATH=0000:3b:00.0"]

        assert environment.translate(entries, self.ADDRESSES) == [
            "PCIDEVICE_NIC=0000:01:03.0,0000:01:04.0",
            "PATH=0000:3b:00.0",
        ]

    def test_the_detailed_form_is_translated_too(self):
        entry = 'PCIDEVICE_NIC_INFO={"0000:3b:00.0": {"vfio": "/dev/vfio/9"}}'

        assert environment.translate([entry], self.ADDRESSES)[0].startswith('PCIDEVICE_NIC_INFO={"0000:01:03.0"')

    def test_what_was_not_passed_through_stays(self):
        assert environment.translate(["PCIDEVICE_X=0000:99:00.0", "PCIDEVICE_Y"], self.ADDRESSES) == [
            "PCIDEVICE_X=0000:99:00.0",
            "PCIDEVICE_Y",
        ]
