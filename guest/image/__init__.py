"""Builder of the guest: kernel, initrd and root image, made of Debian packages.

`python -m guest.image --out DIR` leaves in DIR the links `vmlinux`, `kata-initrd.img` and `kata-image.erofs` to the
guest of the current inputs, builds it only if it is not in DIR's cache yet, and needs neither root nor the host's own
packages to match. The same inputs give the same bytes.

Glossary
    lock        the package versions that apt resolved once; `--refresh` resolves anew
    key         digest of the lock, the builder's files and the guest's Python sources: the name of a built guest
    tree        a root file system as a value, path by path, before it is written
    bundle      one file with the code of all Python modules, from which the launcher imports
    launcher    the first Python code in the guest; gives the interpreter its path and calls the agent

How the guest boots (what a virtual machine must offer, and what happens in it)
    1. The kernel is started as ELF through its PVH entry point: QEMU's `-kernel vmlinux -initrd kata-initrd.img`.
    2. The initrd's init (init.sh) loads all drivers of `modules.BOOT_MODULES`: virtio over PCI for block, console
       (and serial ports), rng, network, file sharing and vsock; erofs and overlay. The agent finds them loaded.
    3. The root image is a virtio-blk disk, attached read-only. With one virtio-blk disk that is the one; with more it
       is the one with `serial=kata-image`, wherever it stands. It is mounted as erofs, read-only, without partitions.
    4. /dev (devtmpfs) moves along, and process 1 becomes
       `/usr/bin/python3 -I -S -B -X utf8 /usr/lib/kata-agent/init.py`, which calls `guest.agent.main.main()`.
       Only / and /dev are mounted then: /proc, /sys, /run, /tmp and /var/tmp are the agent's to mount, on directories
       that exist. /etc/resolv.conf is a link to /run/resolv.conf; /etc/hostname, /etc/hosts and /etc/machine-id are
       files to bind-mount over.
    5. If the root cannot be mounted, the console ends with `kata-initrd: <reason>` and the kernel's word of a restart.
       If the agent cannot be imported or ends, the kernel panics below the reason. With `-no-reboot` and `panic=-1`
       QEMU exits at once in both cases.

Kernel parameters
    console=    needed for messages to be seen: ttyS0 from the first line, hvc0 from step 2 on.
    panic=-1    needed for the end in step 5: without it a panicking kernel stands still.
    agent.*     read by the agent, not here. The initrd and the launcher read no parameter at all; `root=`, `init=` and
                `rootfstype=` have no effect, and `ro` is always so.
    Modules carry no signature: `module.sig_enforce=1` and `lockdown=` keep the guest from booting.
"""
