"""Guests that are broken in one way each, made from parts of the real one."""

from __future__ import annotations

from pathlib import Path

from guest.image import cpio
from tests.harness import paths

#: The agent's port, with the drivers loaded as the real first process does.
_PORT = """\
#!/bin/busybox sh
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
/bin/busybox mount -t devtmpfs dev /dev
read -r modules </etc/modules
modprobe -a $modules
for port in /dev/vport*; do exec 3<>"$port"; done
echo "mute guest: port open" >/dev/console
"""

#: First processes, by what the guest does to whoever talks to its agent.
_FIRST_PROCESSES = {
    # The port is opened, and nothing is ever read or said.
    "silent": "while :; do /bin/busybox sleep 1000; done\n",
    # The handshake is answered, and no call after it.
    "deaf": 'read -r _ _ nonce <&3\necho "OK $nonce" >&3\nwhile :; do /bin/busybox sleep 1000; done\n',
    # Everything is answered, with something that nobody understands.
    "babbling": "while :; do echo aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa >&3; done\n",
    # The agent ends in the middle of the handshake, and the machine with it.
    "leaving": "read -r _ <&3\necho 'agent: leaving' >/dev/console\n/bin/busybox reboot -f\n",
}


def initrd(directory: Path, behaviour: str) -> Path:
    """The real initrd with another first process: a key of `_FIRST_PROCESSES`.

    The kernel unpacks archives one after the other (buffer-format.rst), so a later file replaces an earlier one.
    """
    real = (paths.BUILD / "guest" / "kata-initrd.img").read_bytes()
    script = _PORT + _FIRST_PROCESSES[behaviour]
    path = directory / "initrd"
    path.write_bytes(real + cpio.archive([cpio.file("init", script.encode(), 0o755)]))
    return path


def script(directory: Path, name: str, body: str) -> Path:
    """An executable shell script, for a program that misbehaves."""
    path = directory / name
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return path
