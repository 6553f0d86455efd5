"""Devices: what the host plugs into the machine, found by its address and handed to a container.

Glossary:

- *PCI path*: the slots that lead to a device, `02/03` being slot 3 behind the bridge in slot 2; the host knows slots,
  the numbers of buses are the guest's.
- *uevent*: the kernel's word that a device has come or changed; here it only wakes who waits, the truth is in sysfs.
- *root disk*: the disk that the guest's own root file system is on. It is never found, and never a container's.
- *update*: what a device changes in a container's spec: its path, its numbers, its cgroup rule.

From bottom to top: `addresses` (pure), `uevents`, `blocks` (sysfs) - `finder` (waits for a device) - `vfio` -
`registry` (device types by the names of Kata's protocol) - `mapping`, `environment` (pure: into the spec).
"""
