"""The one error of this room."""

from __future__ import annotations

from grpclib.const import Status

#: Longest text of the guest that is passed on, in characters.
_LONGEST = 2000


class AgentError(Exception):
    """An RPC to the agent failed, or the agent could not be reached.

    `rpc` is the RPC's name as in the protocol ("connect" for the dialling), `code` what the agent answered or what
    this side found, `message` one printable line. `lost` is true when the connection was lost: the call may have taken
    effect or not, and another needs a new connection.
    """

    def __init__(self, rpc: str, code: Status, message: str, *, lost: bool = False) -> None:
        self.rpc = rpc
        self.code = code
        self.message = fold(message)
        self.lost = lost
        super().__init__(f"agent {rpc}: {code.name}: {self.message}")


def fold(text: str) -> str:
    """`text`, which may come from the guest, as one printable line of bounded length."""
    printable = "".join(char if char.isprintable() else "?" for char in " ".join(text[: 2 * _LONGEST].split()))
    return printable if len(printable) <= _LONGEST else f"{printable[: _LONGEST - 3]}..."
