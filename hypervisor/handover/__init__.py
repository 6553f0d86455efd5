"""VMs that are booted by one process and become another's, whole, while they run.

- *guardian*: the parent of such a QEMU, a shell that reads a pipe; when the last writer of that pipe is gone, so is
  the shell, and the kernel ends QEMU with it (parent-death signal).
- *lifeline*: that pipe's end for writing. Whoever has it owns the VM: it dies with its last owner, however that dies.
- *parcel*: what one process hands to another: the lifeline and the rest of QEMU's descriptors, and facts in JSON.
"""
