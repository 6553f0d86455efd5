"""What can go wrong with a VM. Every message is one printable line that names the thing and the cause."""

from __future__ import annotations

#: Longest message, in characters; evidence from a guest is cut, not trusted.
MESSAGE_LIMIT = 2000


class HypervisorError(Exception):
    """Base of all errors of this room."""

    def __init__(self, message: str) -> None:
        super().__init__(one_line(message))


class IllegalStateError(HypervisorError):
    """The method is not legal in the state the VM or helper is in: a mistake of the caller."""


class VmGoneError(HypervisorError):
    """The VM has ended; the message says why. For what only wanted it gone, this is success."""


class QmpError(HypervisorError):
    """QEMU refused a command, or did not answer it in time; the message holds QEMU's own words."""


def one_line(text: str, limit: int = MESSAGE_LIMIT) -> str:
    """Fold `text` to a single printable line of at most `limit` characters."""
    folded = "".join(char if char.isprintable() else "?" for char in " ".join(text.split()))
    return folded if len(folded) <= limit else folded[: limit - 3] + "..."
