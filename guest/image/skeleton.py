"""The parts of the image that come from no package: mount points, links and the few files that libc expects."""

from __future__ import annotations

import posixpath

from guest.image import contents, tree
from guest.image.packages import PYTHON

# The agent mounts something on each of these.
MOUNT_POINTS = {
    "dev": 0o755,
    "proc": 0o555,
    "run": 0o755,
    "sys": 0o555,
    "tmp": 0o1777,
    "var/tmp": 0o1777,
    "mnt": 0o755,
    "root": 0o700,
    "var/lib": 0o755,
    "usr/libexec/oci/hooks.d": 0o755,
}

FILES = {
    "etc/group": "root:x:0:\ntty:x:5:\nnogroup:x:65534:\n",
    "etc/hostname": "localhost\n",
    "etc/hosts": "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n",
    "etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
    "etc/os-release": 'ID=kata-guest\nNAME="Kata guest"\nPRETTY_NAME="Kata guest"\n',
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n",
    "etc/shells": "/bin/sh\n",
    # A machine-id is written at start, by bind mount: an empty file says that there is none yet.
    "etc/machine-id": "",
}

# /run is writable, the image is not.
LINKS = {
    "etc/mtab": "../proc/self/mounts",
    "etc/resolv.conf": "../run/resolv.conf",
    "usr/bin/python3": PYTHON,
    "usr/sbin/ip6tables": "xtables-nft-multi",
    "usr/sbin/ip6tables-restore": "xtables-nft-multi",
    "usr/sbin/ip6tables-save": "xtables-nft-multi",
    "usr/sbin/iptables": "xtables-nft-multi",
    "usr/sbin/iptables-restore": "xtables-nft-multi",
    "usr/sbin/iptables-save": "xtables-nft-multi",
    "usr/sbin/mkfs.ext4": "mke2fs",
    "var/run": "../run",
}


def nodes() -> tree.Tree:
    """Return the directories, files and links, the links of the merged layout and of busybox' programs included."""
    out: tree.Tree = {path: tree.directory(mode) for path, mode in MOUNT_POINTS.items()}
    out |= {path: tree.file(text.encode()) for path, text in FILES.items()}
    out |= {path: tree.symlink(target) for path, target in LINKS.items()}
    out |= {name: tree.symlink(f"usr/{name}") for name in tree.MERGED}
    out |= {path: tree.symlink(_busybox_from(path)) for path in contents.APPLETS}
    return out


def _busybox_from(path: str) -> str:
    return posixpath.relpath("usr/bin/busybox", posixpath.dirname(path))
