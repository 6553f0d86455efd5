"""Addresses of devices: what the host may write, and nothing else."""

from __future__ import annotations

import pytest

from guest.agent.devices.addresses import PciPath, ScsiAddress, ccw_address, node_name, pci_address
from guest.agent.errors import InvalidArgumentError


@pytest.mark.parametrize(
    ("text", "root", "slots"),
    [
        ("02", "00", ("02.0",)),
        ("02/03", "00", ("02.0", "03.0")),
        ("1e.1", "00", ("1e.1",)),
        ("2/3", "00", ("02.0", "03.0")),
        ("02/00/01", "00", ("02.0", "00.0", "01.0")),
        ("20/00/02", "20", ("00.0", "02.0")),
    ],
)
def test_a_pci_path_is_slots_from_a_root_bus(text, root, slots):
    assert PciPath.parse(text) == PciPath(root, slots)


@pytest.mark.parametrize(
    "text",
    ["", "/", "02/", "20", "02/20", "02.8", "002", "..", "../02", "02/../03", "x", "٠٢", "02\n", "/".join(["01"] * 9)],
)
def test_what_is_no_pci_path_is_refused(text):
    with pytest.raises(InvalidArgumentError):
        PciPath.parse(text)


def test_a_pci_path_of_slot_numbers_is_the_same_path():
    assert PciPath.of_slots([2, 0x1E]) == PciPath.parse("02/1e")
    assert str(PciPath.parse("2/1e.1")) == "02/1e.1"


@pytest.mark.parametrize("slots", [[], [32], [1 << 31]])
def test_slot_numbers_out_of_range_are_refused(slots):
    with pytest.raises(InvalidArgumentError):
        PciPath.of_slots(slots)


def test_a_scsi_address_is_target_and_unit():
    assert ScsiAddress.parse("3:16383") == ScsiAddress(3, 16383)


@pytest.mark.parametrize("text", ["", "3", "3:", ":1", "256:0", "0:16384", "-1:0", "0:0:3:1", "3:1\n", "* *", "a:b"])
def test_what_is_no_scsi_address_is_refused(text):
    with pytest.raises(InvalidArgumentError):
        ScsiAddress.parse(text)


def test_a_pci_address_has_a_domain():
    assert pci_address("3B:00.1") == "0000:3b:00.1"
    assert pci_address("0001:3b:1f.7") == "0001:3b:1f.7"


@pytest.mark.parametrize("text", ["", "3b:20.0", "3b:00.8", "3b:00", "0000:3b:00.0/..", "zz:00.0"])
def test_what_is_no_pci_address_is_refused(text):
    with pytest.raises(InvalidArgumentError):
        pci_address(text)


def test_a_ccw_address_is_kept():
    assert ccw_address("0.3.00AF") == "0.3.00af"


@pytest.mark.parametrize("text", ["", "0.0.4", "1.0.0004", "0.4.0004", "0.0.0004/..", "0.0.000g"])
def test_what_is_no_ccw_address_is_refused(text):
    with pytest.raises(InvalidArgumentError):
        ccw_address(text)


def test_a_node_is_a_name_right_below_dev():
    assert node_name("/dev/pmem0p1") == "pmem0p1"


@pytest.mark.parametrize(
    "text", ["", "vda", "/dev", "/dev/", "/dev/a/b", "/dev/../sda", "/sys/x", "/dev/.x", "/dev/x\0"]
)
def test_what_is_no_node_is_refused(text):
    with pytest.raises(InvalidArgumentError):
        node_name(text)
