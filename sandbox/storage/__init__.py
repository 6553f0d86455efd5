"""What a container's files are made of, other than what is simply shared.

- source: what the host has at a path that a mount names;
- disk: a block device or image file of the host, plugged into the VM for as long as a container needs it;
- storage: what the guest's agent is asked to mount (Kata's `Storage`): a disk, its own memory, a directory of its own;
- layer: one of several disks that make one root file system.
"""
