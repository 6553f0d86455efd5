"""The floor of a cold start: QEMU alone, booting the very guest that a sandbox boots, until its agent answers.

The command line is the sandbox' own, taken from the process table, without what needs a helper (virtio-fs), a pod
(network) or a client (QMP), so that the floor and the sandbox differ in what the shim adds, and in nothing else.
"""

from __future__ import annotations

import re
import secrets
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.harness import processes

#: What a device names when it needs a helper or the pod's network.
_NEEDS_HELPER = re.compile(r"vhost-user|virtio-net|\btap\b")
_NEEDS_MORE_THAN_SHARE = re.compile(r"vhost-user-(?!fs)|virtio-net|\btap\b")

#: The back end of virtio-fs: everything up to its socket.
_SHARE = re.compile(r"^(socket,id=fs0,path=).*$")

#: The character device behind which the agent's port is.
_AGENT = "agent"

_IDENTIFIER = re.compile(r"(?:^|,)id=([^,]+)")
_REFERENCE = re.compile(r"(?:^|,)(?:chardev|netdev)=([^,]+)")
_DESCRIPTOR = re.compile(r"\bfd=\d+")


def floor_command(command: Sequence[str], agent_fd: int, share: Path | None = None) -> list[str]:
    """The command line of a bare QEMU, from that of a sandbox.

    Devices that need a helper or the pod's network are dropped, with their back ends; but with `share`, the socket of
    another virtiofsd, virtio-fs stays. The agent's listening socket becomes descriptor `agent_fd`; every other
    inherited socket becomes a null device.
    """
    pairs = _options(command[1:])
    if share is not None:
        pairs = [(option, _SHARE.sub(rf"\g<1>{share}", value)) for option, value in pairs]
    needs_helper = _NEEDS_MORE_THAN_SHARE if share is not None else _NEEDS_HELPER
    dropped = {name for _, value in pairs if needs_helper.search(value) for name in _REFERENCE.findall(value)}
    kept = [
        (option, _detached(value, agent_fd) if option == "-chardev" else value)
        for option, value in pairs
        if not needs_helper.search(value) and not dropped & set(_IDENTIFIER.findall(value))
    ]
    return [command[0], *(word for pair in kept for word in pair if word)]


def _detached(chardev: str, agent_fd: int) -> str:
    """A character device without the sandbox' descriptors."""
    (name,) = _IDENTIFIER.findall(chardev)
    if name == _AGENT:
        return _DESCRIPTOR.sub(f"fd={agent_fd}", chardev)
    return f"null,id={name}" if _DESCRIPTOR.search(chardev) else chardev


def _options(words: Sequence[str]) -> list[tuple[str, str]]:
    """Options with their value; the value is empty for a flag."""
    pairs: list[tuple[str, str]] = []
    for word in words:
        if word.startswith("-") or not pairs or pairs[-1][1]:
            pairs.append((word, ""))
        else:
            pairs[-1] = (pairs[-1][0], word)
    return pairs


def command_of(sandbox: str, program: str = "qemu-system") -> list[str]:
    """The command line of a running sandbox' QEMU or virtiofsd; raises `LookupError` if there is none."""
    found = [one for one in processes.find(rf"/run/kata/{sandbox}-") if one.name.startswith(program)]
    # virtiofsd is two processes, of which the second waits for the first.
    commands = {Path(f"/proc/{one.pid}/cmdline").read_bytes() for one in found}
    if len(commands) != 1:
        raise LookupError(f"{len(commands)} command lines of {program} of {sandbox} instead of one")
    return commands.pop().rstrip(b"\0").decode().split("\0")


@contextmanager
def launched(command: Sequence[str], log: Path, fds: Sequence[int]) -> Iterator[subprocess.Popen[bytes]]:
    """A program that inherits `fds`, with its output in `log`; it is killed at the end, and when this process dies."""
    with log.open("wb") as output:
        # As the shim's own helpers: none outlives who started it.
        words = ["setpriv", "--pdeathsig", "KILL", "--", *command]
        child = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=output, stderr=output, pass_fds=fds)
    try:
        yield child
    finally:
        child.kill()
        child.wait()


@contextmanager
def listening(path: Path) -> Iterator[socket.socket]:
    """A UNIX socket for QEMU or virtiofsd to take clients from."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        yield listener


def boot(command: Sequence[str], directory: Path, timeout: float = 120.0) -> float:
    """Boot the guest of a sandbox' `command` until its agent answers, and end it; seconds from exec to answer.

    As the shim does, the agent's socket is bound before QEMU runs, so nobody polls. Raises `RuntimeError` with QEMU's
    last words if the agent does not answer in time.
    """
    path, log = directory / "agent", directory / "stderr"
    with listening(path) as listener, socket.socket(socket.AF_UNIX) as client:
        bare = floor_command(command, listener.fileno())
        began = time.perf_counter()
        with launched(bare, log, [listener.fileno()]):
            listener.close()
            try:
                client.settimeout(timeout)
                client.connect(str(path))
                _greet(client)
                return time.perf_counter() - began
            except OSError as error:
                words = " ".join(log.read_text(errors="replace").split())
                raise RuntimeError(f"the bare QEMU's agent did not answer: {error}: {words[-500:]}") from error


def _greet(stream: socket.socket) -> None:
    """Say the serial preamble of our agent, and wait for its answer."""
    nonce = secrets.token_hex(16)
    stream.sendall(bytes(16) + f"KATA-AGENT 1 {nonce}\n".encode())
    answer = b""
    while f"OK {nonce}\n".encode() not in answer:
        data = stream.recv(4096)
        if not data:
            raise ConnectionResetError("QEMU closed the agent's channel")
        answer += data
