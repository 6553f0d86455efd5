"""What a VM is: QEMU, its monitor, its devices and the file system daemon beside it. Knows no container.

Glossary:

- *VM*: one QEMU process and what the host holds for it; `vm.Vm` is the contract, `qemu.QemuVm` is the real one.
- *spec*: plain values that say all a VM or a helper is, made before anything is touched.
- *command line*: a pure function of the spec and of the file descriptors QEMU inherits.
- *QMP*: QEMU's monitor protocol; here always over a socket pair, so that a dead QEMU is an end of file.
- *console*: the guest's first serial port, where early boot and kernel panics are told.
- *tail*: the last bytes of a stream, bounded; the evidence that error messages quote.
- *virtiofsd*: the daemon that serves the shared directory to the guest over vhost-user.
- *accelerator*: KVM, or TCG where there is none that works.

Nothing is imported here: what starts a shim pays for each import.
"""
