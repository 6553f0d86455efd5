"""A conversation with the kernel's routing netlink: requests that are acknowledged, and dumps."""

from __future__ import annotations

import os
import socket

from guest.agent import rtnetlink
from guest.agent.errors import InternalError

_SOL_NETLINK = 270
_NETLINK_CAP_ACK = 10
_NETLINK_EXT_ACK = 11
_BUFFER = 1 << 17
#: The kernel answers within the system call; this only keeps a broken one from hanging the agent.
_TIMEOUT = 5.0


class NetlinkError(InternalError):
    """The kernel refused a request; `errno` says why."""

    def __init__(self, what: str, errno: int, words: str) -> None:
        self.errno = errno
        super().__init__(f"{what}: {os.strerror(errno)}{f' ({words})' if words else ''}")


class Netlink:
    """A socket of NETLINK_ROUTE; `with Netlink() as netlink`."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
        self._socket.settimeout(_TIMEOUT)
        for option in (_NETLINK_CAP_ACK, _NETLINK_EXT_ACK):
            self._socket.setsockopt(_SOL_NETLINK, option, 1)
        self._sequence = 0

    def __enter__(self) -> Netlink:
        self._socket.bind((0, 0))
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def request(self, what: str, kind: int, flags: int, body: bytes) -> None:
        """Ask for a change and wait for the acknowledgement; `NetlinkError` names `what` if it is refused."""
        self._exchange(what, kind, flags | rtnetlink.NLM_F_ACK, body)

    def dump(self, what: str, kind: int, body: bytes) -> list[bytes]:
        """All objects of a kind: the bodies of the kernel's answers."""
        return self._exchange(what, kind, rtnetlink.NLM_F_DUMP, body)

    def _exchange(self, what: str, kind: int, flags: int, body: bytes) -> list[bytes]:
        self._sequence += 1
        answers: list[bytes] = []
        try:
            self._socket.send(rtnetlink.message(kind, flags, self._sequence, body))
            while True:
                for answer, sequence, content in rtnetlink.messages(self._socket.recv(_BUFFER)):
                    if sequence != self._sequence:
                        continue
                    if answer == rtnetlink.NLMSG_DONE:
                        return answers
                    if answer == rtnetlink.NLMSG_ERROR:
                        _raise_unless_done(what, content)
                        return answers
                    answers.append(content)
        except OSError as error:
            raise InternalError(f"{what}: netlink: {error}") from error


def _raise_unless_done(what: str, content: bytes) -> None:
    code, words = rtnetlink.acknowledgement(content)
    if code:
        raise NetlinkError(what, code, words)
