"""Devices that come and go while the VM runs.

- slot: a place on one of the VM's PCI bridges, known to QEMU by bus and address and to the guest by its PCI path;
- hotplug: adds devices over QMP, and removes them with the guest's consent;
- node: QEMU's block back end, which a disk's device is the front of.
"""
