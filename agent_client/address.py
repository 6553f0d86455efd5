"""The agent URL: where the agent of one VM is reached. Parsed strictly, so that a slip is an error and not a guess.

serial:///run/kata/NAME/agent     a virtio-serial port behind a UNIX socket of QEMU
vsock://CID:PORT                  AF_VSOCK, the guest's context id in decimal
hvsock:///PATH:PORT               hybrid vsock: a UNIX socket that takes `CONNECT PORT`
unix:///PATH                      ttrpc on a plain UNIX socket
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePosixPath

#: Kata's port for the agent's ttrpc service, on vsock and hybrid vsock.
AGENT_PORT = 1024

#: `sockaddr_un.sun_path` holds 108 bytes with its NUL (unix(7)).
_LONGEST_PATH = 107
#: 0 is the hypervisor, 2**32-1 stands for "any" (vsock(7)); neither is a peer to connect to.
_CIDS = range(1, 2**32 - 1)
_PORTS = range(1, 2**32 - 1)


class AddressError(ValueError):
    """Not an agent URL; the text says why, on one line."""


@dataclass(frozen=True)
class Serial:
    """A virtio-serial port: the socket of QEMU's character device."""

    path: str

    def __str__(self) -> str:
        return f"serial://{self.path}"


@dataclass(frozen=True)
class Vsock:
    """A vsock port of a guest."""

    cid: int
    port: int

    def __str__(self) -> str:
        return f"vsock://{self.cid}:{self.port}"


@dataclass(frozen=True)
class HybridVsock:
    """A vsock port of a guest behind a UNIX socket of its VMM."""

    path: str
    port: int

    def __str__(self) -> str:
        return f"hvsock://{self.path}:{self.port}"


@dataclass(frozen=True)
class Unix:
    """A UNIX socket on which ttrpc is spoken from the first byte."""

    path: str

    def __str__(self) -> str:
        return f"unix://{self.path}"


Address = Serial | Vsock | HybridVsock | Unix


def parse(url: str) -> Address:
    """The address that `url` stands for; raises `AddressError`."""
    scheme, separator, rest = url.partition("://")
    try:
        if not separator:
            raise AddressError("it has no scheme")
        if scheme == "vsock":
            cid, port = _split_port(rest)
            return Vsock(_number(cid, _CIDS, "context id"), port)
        if scheme == "hvsock":
            path, port = _split_port(rest)
            return HybridVsock(_path(path), port)
        if scheme in {"serial", "unix"}:
            return Serial(_path(rest)) if scheme == "serial" else Unix(_path(rest))
        raise AddressError("its scheme is none of serial, vsock, hvsock, unix")
    except AddressError as error:
        raise AddressError(f"not an agent URL: {url[:200]!r}: {error}") from error


def _split_port(rest: str) -> tuple[str, int]:
    head, separator, port = rest.rpartition(":")
    if not separator:
        raise AddressError("it has no port")
    return head, _number(port, _PORTS, "port")


def _number(text: str, allowed: range, what: str) -> int:
    if not re.fullmatch(r"[1-9][0-9]{0,9}", text) or int(text) not in allowed:
        raise AddressError(f"its {what} is not a number from {allowed[0]} to {allowed[-1]}")
    return int(text)


def _path(text: str) -> str:
    if not text.isprintable() or str(PurePosixPath(text)) != text or not re.match("/[^/]", text):
        raise AddressError("its path is not absolute and plain")
    if ".." in PurePosixPath(text).parts:
        raise AddressError("its path has a '..'")
    if len(text.encode()) > _LONGEST_PATH:
        raise AddressError(f"its path is longer than the {_LONGEST_PATH} bytes a UNIX socket can have")
    return text
