"""A NIC's arguments, and what is plugged and unplugged over QMP."""

from __future__ import annotations

import pytest

from hypervisor.errors import HypervisorError
from hypervisor.hotplug.slots import PciSlot
from hypervisor.nics import Nic

MAC = "02:00:00:00:00:01"


def test_one_queue_is_one_descriptor_and_no_option_rom():
    flags = Nic("nic2", MAC, (7,), slot=PciSlot(0, 5)).arguments()

    assert flags == [
        "-netdev",
        "tap,id=net-nic2,fds=7,vhost=off",
        "-device",
        f"virtio-net-pci,id=nic2,netdev=net-nic2,mac={MAC},bus=pci-bridge-0,addr=0x5,romfile=",
    ]


def test_queues_have_a_vector_each_and_vhost_a_descriptor_each():
    flags = Nic("nic2", MAC, (7, 8), (9, 10)).arguments()

    assert flags[1] == "tap,id=net-nic2,fds=7:8,vhost=on,vhostfds=9:10"
    assert "mq=on,vectors=6" in flags[3]


@pytest.mark.parametrize(
    ("name", "mac", "taps", "vhosts"),
    [("nic,x=1", MAC, (7,), ()), ("nic2", "02:00,", (7,), ()), ("nic2", MAC, (), ()), ("nic2", MAC, (7, 8), (9,))],
)
def test_what_would_be_misread_is_refused(name, mac, taps, vhosts):
    with pytest.raises(HypervisorError):
        Nic(name, mac, taps, vhosts)
