"""Pods through CRI on a CNI bridge: what kubelet's users do with a pod's network."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import http.server
import os
import socket
import struct
import threading
import urllib.request
from collections.abc import AsyncIterator, Iterator
from ipaddress import ip_network

import pytest

from protos.gen.runtime import v1 as api
from tests.harness.bed import Bed
from tests.harness.command import run
from tests.harness.cri import Container, Cri, Pod
from tests.harness.fixtures import BedKeeper
from tests.integration.cri.spdy import forwarded
from tests.integration.network.inside import PATIENCE, dial, echoed, namespace_of, reset
from tests.integration.system.pods import STAY

pytestmark = [pytest.mark.integration, pytest.mark.anyio]

AMOUNT = 100 << 20
#: What sends back all it gets listens there in the first pod, and the port of the host that leads to it.
ECHO, HOST_PORT = 7000, 47000
#: A command that prints the connections of the guest that are up.
CONNECTED = "netstat -tn | grep ESTABLISHED || true"


class Place:
    """Two pods, a container in each, and the gateway's address on the host."""

    def __init__(self, cri: Cri, gateway: str) -> None:
        self.cri = cri
        self.gateway = gateway
        self.pods: list[Pod] = []
        self.boxes: list[Container] = []
        self.addresses: list[str] = []

    async def start(self) -> None:
        dns = api.DnsConfig(servers=[self.gateway])
        ports = [api.PortMapping(container_port=ECHO, host_port=HOST_PORT)]
        self.pods = list(
            await asyncio.gather(
                self.cri.run_pod("one", dns_config=dns, port_mappings=ports), self.cri.run_pod("two", dns_config=dns)
            )
        )
        for pod in self.pods:
            status = await self.cri.pod_status(pod)
            assert status.network is not None
            self.addresses.append(status.network.ip)
            self.boxes.append(await self.cri.run(pod, "box", *STAY))
        listening = f"until netstat -ltn | grep -q :{ECHO}; do sleep 0.1; done"
        await self.sh(0, f"nc -ll -p {ECHO} -e cat >/dev/null 2>&1 & {listening}")

    async def sh(self, index: int, script: str) -> str:
        done = await self.cri.exec(self.boxes[index], "sh", "-c", script, timeout=PATIENCE)
        assert done.exit_code == 0, done
        return done.text


def gateway_of(bed: Bed) -> str:
    return str(next(ip_network(bed.network.subnet).hosts()))


@pytest.fixture(scope="module")
async def place(bed_keeper: BedKeeper) -> AsyncIterator[Place]:
    bed = bed_keeper.bed()
    check = bed.leak_check()
    async with Cri.connect(bed.socket, bed.pod_logs, bed.runtime) as cri:
        await cri.wait_for_image()
        made = Place(cri, gateway_of(bed))
        try:
            await made.start()
            yield made
        finally:
            await cri.remove_all()
    check.assert_clean()


@contextlib.contextmanager
def serving(gateway: str) -> Iterator[int]:
    """An HTTP server on the host's end of the pods' network; its port."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"from the host")

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer((gateway, 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


async def test_pods_are_pinged_from_the_host_and_reach_it(place: Place) -> None:
    done = await asyncio.to_thread(run, "busybox", "ping", "-c", "2", "-W", "10", place.addresses[0])
    assert "2 packets received" in done.text

    assert "2 packets received" in await place.sh(0, f"ping -c 2 -W 10 {place.gateway}")


async def test_http_works_into_a_pod_out_of_it_and_between_two(place: Place) -> None:
    await place.sh(0, "mkdir -p /www && echo from the pod >/www/index.html && httpd -p 8080 -h /www")
    url = f"http://{place.addresses[0]}:8080/"

    fetched = await asyncio.to_thread(lambda: urllib.request.urlopen(url, timeout=60).read())
    between = await place.sh(1, _get(place.addresses[0], 8080))
    with serving(place.gateway) as port:
        out = await place.sh(1, _get(place.gateway, port))

    assert fetched == b"from the pod\n"
    assert "200 OK" in between.splitlines()[0]
    assert between.endswith("from the pod")
    assert out.endswith("from the host")


def _get(address: str, port: int) -> str:
    """A shell command that fetches / over HTTP, by nc: the static wget of the image lacks its C library's resolver."""
    return f"printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc {address} {port}"


@contextlib.contextmanager
def resolving(gateway: str, address: str) -> Iterator[None]:
    """A name server on the gateway that answers every question for an IPv4 address with `address`, others with none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind((gateway, 53))

        def serve() -> None:
            while question := server.recvfrom(512):
                data, client = question
                if data == b"end":
                    return
                body = data[12 : data.index(b"\0", 12) + 5]
                is_a = body[-4:-2] == b"\0\1"
                record = struct.pack(">HHHIH", 0xC00C, 1, 1, 60, 4) + socket.inet_aton(address)
                head = data[:2] + struct.pack(">HHHHH", 0x8180, 1, int(is_a), 0, 0)
                server.sendto(head + body + (record if is_a else b""), client)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield
        finally:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as last:
                last.sendto(b"end", (gateway, 53))
            thread.join()


async def test_names_are_resolved_by_the_pod_s_name_server(place: Place) -> None:
    with resolving(place.gateway, "192.0.2.99"):
        answer = await place.sh(0, "nslookup some.name.test")

    assert "192.0.2.99" in answer


async def test_100_mb_arrive_whole_both_ways(place: Place) -> None:
    data = os.urandom(AMOUNT)

    with socket.create_connection((place.addresses[0], ECHO), timeout=PATIENCE) as stream:
        assert await asyncio.to_thread(echoed, stream, data) == hashlib.sha256(data).hexdigest()


async def test_a_port_of_the_host_leads_into_the_pod(place: Place) -> None:
    with socket.create_connection((place.gateway, HOST_PORT), timeout=PATIENCE) as stream:
        assert await asyncio.to_thread(echoed, stream, b"by the host") == hashlib.sha256(b"by the host").hexdigest()


async def test_a_forwarded_port_carries_20_mb_both_ways_and_two_at_once(place: Place) -> None:
    namespace = await namespace_of(place.cri, place.pods[0])

    async def exchange(host: str, amount: int) -> bool:
        data = os.urandom(amount)
        with await asyncio.to_thread(dial, namespace, ECHO, host) as stream:
            return await asyncio.to_thread(echoed, stream, data) == hashlib.sha256(data).hexdigest()

    assert await exchange("localhost", 20 << 20)
    assert all(await asyncio.gather(exchange("127.0.0.1", 1 << 20), exchange("::1", 1 << 20)))


async def test_a_forwarded_port_that_nobody_listens_on_is_closed_at_once_and_a_reset_goes_through(place: Place) -> None:
    namespace = await namespace_of(place.cri, place.pods[0])
    with await asyncio.to_thread(dial, namespace, 7) as refused, pytest.raises(ConnectionResetError):
        refused.recv(1)

    stream = await asyncio.to_thread(dial, namespace, ECHO)
    stream.sendall(b"x")
    assert stream.recv(1) == b"x"
    assert f"127.0.0.1:{ECHO}" in await place.sh(0, CONNECTED)
    reset(stream)

    await place.sh(0, f"until ! {CONNECTED} | grep -q 127.0.0.1:{ECHO}; do sleep 0.1; done")


async def test_port_forward_through_cri_reaches_the_container_s_loopback(place: Place) -> None:
    data = os.urandom(1 << 20)
    request = api.PortForwardRequest(pod_sandbox_id=place.pods[0].id)

    async with forwarded((await place.cri.runtime.port_forward(request, timeout=60)).url, ECHO) as remote:
        assert await remote.exchange(data) == data
    async with forwarded((await place.cri.runtime.port_forward(request, timeout=60)).url, 7) as remote:
        assert "connection reset by peer" in await remote.refusal()
