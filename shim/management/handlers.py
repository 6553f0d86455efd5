"""The requests of the management socket: Kata's (its shim's `shim_management`), and `/sandbox` for `kata-ctl`.

Loaded with the first request: a pod that nobody asks does not pay for it.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Awaitable, Callable
from typing import Any, Final

from grpclib.const import Status

from agent_client.errors import AgentError
from sandbox import guest_paths
from sandbox.errors import NotFoundError, SandboxError, one_line
from sandbox.pod_state import PodState
from shim.management import pod_metrics
from shim.management.http import HttpError, Request, Response

#: Seconds that the guest has for a request.
GUEST_TIMEOUT: Final = 8.0
#: Longest answer of a guest that is passed on, in bytes.
_GUEST_ANSWER_MAX = 1 << 20
_JSON = "application/json"
_METRICS = "text/plain; version=0.0.4; charset=utf-8"
_STATUSES = {
    Status.NOT_FOUND: 404,
    Status.INVALID_ARGUMENT: 400,
    Status.UNAVAILABLE: 503,
    Status.DEADLINE_EXCEEDED: 503,
}

Handler = Callable[[PodState, Request], Awaitable[Response]]


async def handle(pod: PodState, request: Request) -> Response:
    """The answer to a request; raises `HttpError`."""
    methods = ROUTES.get(request.path)
    if methods is None:
        raise HttpError(404, f"no such request; there are {' '.join(sorted(ROUTES))}")
    handler = methods.get(request.method)
    if handler is None:
        raise HttpError(405, f"{request.path} takes {' or '.join(sorted(methods))}")
    try:
        return await handler(pod, request)
    except AgentError as error:
        raise HttpError(_STATUSES.get(error.code, 500), str(error)) from error
    except SandboxError as error:
        raise HttpError(_STATUSES.get(error.status, 500), str(error)) from error


async def _metrics(pod: PodState, _: Request) -> Response:
    return Response((await pod_metrics.metrics(pod)).encode(errors="replace"), content_type=_METRICS)


async def _agent_url(pod: PodState, _: Request) -> Response:
    return Response(pod.require_machine().vm.agent_url.encode())


async def _sandbox(pod: PodState, _: Request) -> Response:
    return _json(facts(pod))


def facts(pod: PodState) -> dict[str, Any]:
    """The pod now, as far as the daemon knows without asking the guest."""
    machine = pod.machine
    return {
        "sandbox_id": pod.identity.sandbox_id,
        "namespace": pod.identity.namespace,
        "vm": {
            "state": pod_metrics.vm_state(pod),
            "cause": machine.cause if machine else "",
            "vcpus": machine.sizer.size.vcpus if machine else 0,
            "memory_mib": machine.sizer.size.memory_mib if machine else 0,
        },
        "containers": {
            container.id: {
                "status": container.init.state.status.name.lower(),
                "exit_status": container.init.exit.exit_status if container.init.exit else None,
                "execs": sorted(container.execs),
            }
            for container in pod.containers.values()
        },
    }


async def _volume_stats(pod: PodState, request: Request) -> Response:
    path = _guest_volume(pod, request.query.get("path", ""))
    stats = await pod.require_machine().agent.storage.get_volume_stats(path, timeout=GUEST_TIMEOUT)
    usage = [
        {"available": one.available, "total": one.total, "used": one.used, "unit": int(one.unit)}
        for one in stats.usage[:8]
    ]
    condition = stats.volume_condition
    told = {"abnormal": condition.abnormal, "message": one_line(condition.message, 500)} if condition else None
    return _json({"usage": usage, "volume_condition": told})


async def _volume_resize(pod: PodState, request: Request) -> Response:
    try:
        asked = json.loads(request.body)
        path, size = asked["VolumePath"], asked["Size"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise HttpError(400, 'the body is not {"VolumePath": PATH, "Size": BYTES}') from error
    if not isinstance(path, str) or type(size) is not int or not 0 < size < 1 << 63:
        raise HttpError(400, "VolumePath must be a path, and Size a number of bytes")
    await pod.require_machine().agent.storage.resize_volume(_guest_volume(pod, path), size, timeout=GUEST_TIMEOUT)
    return Response(b"")


def _guest_volume(pod: PodState, path: str) -> str:
    """Where the guest has a volume that is asked for by its path there, or by the host's. Raises `NotFoundError`."""
    if path.startswith(guest_paths.storage("")):
        return path
    if path and any(mount.source == path for one in pod.containers.values() for mount in one.spec.mounts):
        return guest_paths.storage(base64.urlsafe_b64encode(path.encode(errors="surrogateescape")).decode())
    raise NotFoundError(f"no container of the pod has the volume {path[:200]!r}")


async def _get_rules(pod: PodState, request: Request) -> Response:
    network = pod.require_machine().agent.network
    rules = await network.get_ip_tables(is_ipv6=request.path == "/ip6tables", timeout=GUEST_TIMEOUT)
    return Response(_readable(rules))


async def _set_rules(pod: PodState, request: Request) -> Response:
    network = pod.require_machine().agent.network
    is_ipv6 = request.path == "/ip6tables"
    return Response(_readable(await network.set_ip_tables(request.body, is_ipv6=is_ipv6, timeout=GUEST_TIMEOUT)))


async def _set_policy(pod: PodState, request: Request) -> Response:
    try:
        policy = request.body.decode()
    except UnicodeDecodeError as error:
        raise HttpError(400, "the policy is not UTF-8") from error
    await pod.require_machine().agent.upkeep.set_policy(policy, timeout=GUEST_TIMEOUT)
    return Response(b"")


def _readable(data: bytes) -> bytes:
    """What a guest printed, as text that does nothing to a terminal."""
    lines = data[:_GUEST_ANSWER_MAX].decode(errors="replace").split("\n")
    return "\n".join(
        "".join(char if char.isprintable() or char == "\t" else "?" for char in line) for line in lines
    ).encode()


def _json(value: Any) -> Response:
    return Response(json.dumps(value).encode() + b"\n", content_type=_JSON)


#: Paths and their methods; Kata's two shims differ in the method of /direct-volume/stats.
ROUTES: Final[dict[str, dict[str, Handler]]] = {
    "/metrics": {"GET": _metrics},
    "/agent-url": {"GET": _agent_url},
    "/sandbox": {"GET": _sandbox},
    "/direct-volume/stats": {"GET": _volume_stats, "POST": _volume_stats},
    "/direct-volume/resize": {"POST": _volume_resize},
    "/iptables": {"GET": _get_rules, "PUT": _set_rules},
    "/ip6tables": {"GET": _get_rules, "PUT": _set_rules},
    "/policy": {"PUT": _set_policy},
}
