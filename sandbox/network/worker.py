"""The process that works inside the pod's namespace: `worker.py SOCKET NAMESPACE SEARCH_PATH`, by two descriptors, or a
fork of the daemon.

It answers requests on the socket, one after the other, until the other side closes it. Descriptors go beside an answer.
The daemon stays outside of the namespace, and stays small: pyroute2 is loaded here, and gone with this process.

    {"do": "scan"}                              {"scan": ...}
    {"do": "attach", "endpoints": [...]}        {"devices": [{"index", "taps", "vhosts"}...]} and the descriptors
    {"do": "detach", "endpoints": [...]}        {}
    {"do": "resize", "devices": [[index, mtu]]} {}
    anything that fails                         {"error": "one line"}
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable
from typing import Any

Answer = tuple[dict[str, Any], list[int]]


def main(arguments: list[str]) -> None:
    """What the process does that was started for it."""
    sys.path[:0] = [entry for entry in arguments[2].split(":") if entry not in sys.path]
    serve(int(arguments[0]), int(arguments[1]))


def serve(channel_fd: int, namespace: int) -> None:
    """Serve in the namespace behind a descriptor until the end of the socket."""
    from sandbox.network import wire
    from sandbox.network.entering import enter

    channel = socket.socket(fileno=channel_fd)
    enter(namespace)
    # After that: its sockets are opened in the namespace that we are in.
    from sandbox.network.kernel.library import load

    ip_route, _ = load()
    with channel, ip_route() as netlink:
        while header := channel.recv(wire.HEADER_SIZE, socket.MSG_WAITALL):
            body = channel.recv(wire.body_length(header), socket.MSG_WAITALL)
            answer, fds = answered(netlink, wire.unpack(body))
            _send(channel, wire.pack(answer), fds)


def _send(channel: socket.socket, data: bytes, fds: list[int]) -> None:
    import os

    from sandbox.network import wire

    left = fds
    while len(left) > wire.MAX_FDS:
        # One byte takes as many along as a message may have.
        socket.send_fds(channel, [data[:1]], left[: wire.MAX_FDS])
        data, left = data[1:], left[wire.MAX_FDS :]
    sent = socket.send_fds(channel, [data], left)
    channel.sendall(data[sent:])
    for fd in fds:
        os.close(fd)


def answered(netlink: Any, request: dict[str, Any]) -> Answer:
    """The answer to a request; whatever fails is one line."""
    verbs: dict[str, Callable[[Any, dict[str, Any]], Answer]] = {
        "scan": _scan,
        "attach": _attach,
        "detach": _detach,
        "resize": _resize,
    }
    from sandbox.network.kernel.library import load

    _, netlink_error = load()
    try:
        return verbs[request["do"]](netlink, request)
    except netlink_error as error:
        return {"error": str(error.args[-1])}, []
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        return {"error": f"{where}{error.strerror or error}"}, []
    except OverflowError as error:
        return {"error": str(error)}, []


def _scan(netlink: Any, _: dict[str, Any]) -> Answer:
    from sandbox.network.kernel.scanning import scan

    return {"scan": scan(netlink).to_json()}, []


def _attach(netlink: Any, request: dict[str, Any]) -> Answer:
    from sandbox.network.kernel.attaching import Attached, attach, detach
    from sandbox.network.plan import Endpoint

    done: list[Attached] = []
    for endpoint in (Endpoint(**each) for each in request["endpoints"]):
        try:
            done.append(attach(netlink, endpoint))
        except Exception as error:
            for each in done:
                each.close()
            detach([each.endpoint for each in done])
            raise _named(error, endpoint.name) from error
    devices = [{"index": each.index, "taps": len(each.taps), "vhosts": len(each.vhosts)} for each in done]
    return {"devices": devices}, [fd for each in done for fd in (*each.taps, *each.vhosts)]


def _named(error: Exception, link: str) -> OSError:
    """The error with the link that it is about."""
    import errno

    number = getattr(error, "code", None) or getattr(error, "errno", None) or 0
    if number == errno.ENODEV:
        return OSError(number, f"interface {link} has vanished from the pod's network namespace")
    words = error.strerror if isinstance(error, OSError) and error.strerror else str(error.args[-1])
    about = f"{error.filename}: " if isinstance(error, OSError) and error.filename else ""
    return OSError(number, f"interface {link}: {about}{words}")


def _detach(_: Any, request: dict[str, Any]) -> Answer:
    from sandbox.network.kernel.attaching import detach
    from sandbox.network.plan import Endpoint

    detach([Endpoint(**each) for each in request["endpoints"]])
    return {}, []


def _resize(netlink: Any, request: dict[str, Any]) -> Answer:
    for index, mtu in request["devices"]:
        netlink.link("set", index=index, mtu=mtu)
    return {}, []


if __name__ == "__main__":
    main(sys.argv[1:])
