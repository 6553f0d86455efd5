"""`kata-ctl monitor`: serves the metrics of all pods to Prometheus, with the requests of kata-monitor.

It only reads. There is no authentication, as with kata-monitor: by default it listens on the loopback address.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Callable

from ctl.errors import CtlError
from ctl.gathering import Counts, gather
from ctl.pods import PodEntry, find, find_all
from shim.management import server
from shim.management.client import ManagementError, ask
from shim.management.http import HttpError, Request, Response

LISTEN = "127.0.0.1:8090"
_METRICS = "text/plain; version=0.0.4; charset=utf-8"
#: Seconds that a pod has to tell its agent's address.
_ASK_TIMEOUT = 5.0


class Monitor:
    """Answers the requests; `pods` and `one` tell what is on this node."""

    def __init__(self, pods: Callable[[], list[PodEntry]] = find_all, one: Callable[[str], PodEntry] = find) -> None:
        self._pods = pods
        self._one = one
        self._counts = Counts()

    async def handle(self, request: Request) -> Response:
        """The answer; raises `HttpError`."""
        if request.method != "GET":
            raise HttpError(405, "only GET")
        wanted = request.query.get("sandbox", "")
        try:
            match request.path:
                case "/metrics":
                    return await self._metrics(wanted)
                case "/sandboxes":
                    body = json.dumps([pod.id for pod in self._pods() if pod.pid]) + "\n"
                    return Response(body.encode(), content_type="application/json")
                case "/agent-url":
                    return Response(await ask(self._one(wanted).socket, "GET", "/agent-url", timeout=_ASK_TIMEOUT))
        except CtlError as error:
            raise HttpError(404, str(error)) from error
        except ManagementError as error:
            raise HttpError(503, str(error)) from error
        raise HttpError(404, "there are /metrics /sandboxes /agent-url")

    async def _metrics(self, wanted: str) -> Response:
        if wanted:
            pod_text = await gather([self._one(wanted)])
        else:
            pod_text = await gather([pod for pod in self._pods() if pod.pid], self._counts)
        return Response(pod_text.encode(errors="replace"), content_type=_METRICS)


def listen(address: str) -> socket.socket:
    """A listening socket for HOST:PORT (an IPv6 address in brackets). Raises `CtlError`."""
    host, colon, port = address.rpartition(":")
    if not colon or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise CtlError(f"{address!r} is not an address HOST:PORT")
    host = host.removeprefix("[").removesuffix("]")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, int(port)), family=family, backlog=16)
    except OSError as error:
        raise CtlError(f"can't listen on {address}: {error.strerror or error}") from error


async def run(listener: socket.socket) -> None:
    """Serve until cancelled."""
    await server.serve(listener, Monitor().handle)
