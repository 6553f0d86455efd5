"""The floor of a cold start: QEMU alone, booting the very guest that a sandbox boots, until its agent answers.

The command line is the sandbox' own, taken from the process table, without what needs a helper (virtio-fs) or a pod
(network), so that the floor and the sandbox differ in what the shim adds, and in nothing else.
"""

from __future__ import annotations

import os
import re
import secrets
import socket
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from tests.harness.waiting import eventually

#: Options of a device, or what a device refers to, that the floor does without.
_NEEDS_HELPER = re.compile(r"vhost-user|\bfds?=|virtio-net|\btap\b")

_IDENTIFIER = re.compile(r"(?:^|,)id=([^,]+)")
_REFERENCE = re.compile(r"(?:^|,)(?:chardev|netdev)=([^,]+)")


def floor_command(command: Sequence[str], run_dir: str, directory: str) -> list[str]:
    """The command line of a bare QEMU, from that of a sandbox whose run directory is `run_dir`.

    Devices that need a helper or the pod's network are dropped, with their back ends; `directory` takes the place of
    the run directory, also where QEMU's own sockets are.
    """
    pairs = _options(command[1:])
    dropped = {
        reference for _, value in pairs if _NEEDS_HELPER.search(value) for reference in _REFERENCE.findall(value)
    }
    kept = [
        (option, value)
        for option, value in pairs
        if not _NEEDS_HELPER.search(value) and not dropped & set(_IDENTIFIER.findall(value))
    ]
    words = [word for pair in kept for word in pair if word]
    return [command[0], *(word.replace(run_dir, directory) for word in words)]


def _options(words: Sequence[str]) -> list[tuple[str, str]]:
    """Options with their value; the value is empty for a flag."""
    pairs: list[tuple[str, str]] = []
    for word in words:
        if word.startswith("-") or not pairs or pairs[-1][1]:
            pairs.append((word, ""))
        else:
            pairs[-1] = (pairs[-1][0], word)
    return pairs


def boot(command: Sequence[str], directory: Path, agent: Path, timeout: float = 120.0) -> float:
    """Start `command`, wait until the agent behind the socket `agent` answers, end it; seconds from exec to answer.

    Raises `WaitTimeoutError` or `RuntimeError` (QEMU ended) with QEMU's last words.
    """
    began = time.perf_counter()
    with (directory / "stderr").open("wb") as errors:
        qemu = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=errors, stderr=errors)
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as stream:
            eventually(lambda: _connect(stream, agent, qemu, directory), f"QEMU listens on {agent}", timeout, 0.002)
            _wait_agent(stream, timeout)
        return time.perf_counter() - began
    finally:
        qemu.kill()
        qemu.wait()


def _connect(stream: socket.socket, agent: Path, qemu: subprocess.Popen[bytes], directory: Path) -> bool:
    if qemu.poll() is not None:
        words = " ".join((directory / "stderr").read_text(errors="replace").split())
        raise RuntimeError(f"QEMU ended with {qemu.returncode}: {words[-500:]}")
    try:
        stream.connect(os.fspath(agent))
    except OSError:
        return False
    return True


def _wait_agent(stream: socket.socket, timeout: float) -> None:
    """Greet the agent over its virtio-serial port, and wait for its answer (docs: the agent's serial preamble)."""
    nonce = secrets.token_hex(16)
    stream.settimeout(timeout)
    stream.sendall(bytes(16) + f"KATA-AGENT 1 {nonce}\n".encode())
    answer = b""
    while f"OK {nonce}\n".encode() not in answer:
        data = stream.recv(4096)
        if not data:
            raise RuntimeError("QEMU closed the agent's channel")
        answer += data
