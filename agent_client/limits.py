"""How large a response of the agent may be, in bytes of its frame; a larger one fails the call and is not decoded.

Decoding a hostile message of 4 MiB takes a second or two of the daemon's one thread. Most responses are a few bytes, so
most calls need no such risk.
"""

from __future__ import annotations

from typing import Any, Final

from ttrpc.frame import MESSAGE_MAX

#: Room for the error that may come in place of any response, and for all small ones.
SMALL: Final = 64 * 1024
#: Counters of a container with hundreds of devices and interfaces.
STATS: Final = 512 * 1024

_LARGER: Final = {
    "StatsContainer": STATS,
    "ListInterfaces": STATS,
    "ListRoutes": STATS,
    "UpdateRoutes": STATS,
    "GetMetrics": MESSAGE_MAX,
    "GetDiagnosticData": MESSAGE_MAX,
    "GetIPTables": MESSAGE_MAX,
    "SetIPTables": MESSAGE_MAX,
}


def response_max(rpc: str, request: Any) -> int:
    """The limit for the response to `request`."""
    if rpc in {"ReadStdout", "ReadStderr", "Receive"}:
        return min(MESSAGE_MAX, SMALL + int(request.len))
    return _LARGER.get(rpc, SMALL)
