"""Network namespaces of the tests' own, with ends on the host to talk to, and what is left in one."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.harness.command import Result, run
from tests.harness.waiting import eventually

_numbers = itertools.count(1)


def _own_name(kind: str) -> str:
    """A name for a link or namespace that no other run of the tests has; a link's has at most 15 characters."""
    return f"{kind}{os.getpid()}.{next(_numbers)}"


def ip(*arguments: str) -> None:
    """`ip` on the host; raises `CommandError`."""
    run("ip", *arguments, timeout=20).check()


@dataclass(frozen=True)
class Netns:
    """A namespace by its name in /run/netns."""

    name: str

    @property
    def path(self) -> Path:
        """Where it is bound."""
        return Path("/run/netns", self.name)

    @property
    def option(self) -> tuple[str, str]:
        """`ctr run` in it."""
        return ("--with-ns", f"network:{self.path}")

    def ip(self, line: str) -> None:
        """`ip` in it; raises `CommandError`."""
        run("ip", "-n", self.name, *line.split(), timeout=20).check()

    def run(self, *command: str) -> Result:
        """A program in it."""
        return run("ip", "netns", "exec", self.name, *command, timeout=20)

    def links(self) -> dict[str, dict[str, Any]]:
        """Its links by name."""
        rows = json.loads(run("ip", "-n", self.name, "-json", "-details", "link", "show").check().stdout)
        return {row["ifname"]: row for row in rows}

    def state(self) -> list[tuple[str, ...]]:
        """All that a pod's network may have changed: links with addresses and MTU, routes, queueing disciplines."""
        commands = ("ip -n {} -o -br addr", "ip -n {} route show table all", "tc -n {} qdisc show")
        texts = [run(*command.format(self.name).split()).check().text for command in commands]
        return [tuple(sorted(" ".join(line.split()) for line in text.splitlines())) for text in texts]

    def veth(self, inside: str, *addresses: str, peer: tuple[str, ...] = (), mtu: int = 1500) -> str:
        """A veth pair: `inside` with `addresses` here, its peer, whose name is returned, with those on the host."""
        outside = _own_name("ktv")
        ip("link", "add", inside, "mtu", str(mtu), "netns", self.name, "type", "veth", "peer", "name", outside)
        ip("link", "set", outside, "mtu", str(mtu), "up")
        for address in peer:
            ip("addr", "add", address, "dev", outside, *(["nodad"] if ":" in address else []))
        for address in addresses:
            self.ip(f"addr add {address} dev {inside} {'nodad' if ':' in address else ''}")
        self.ip(f"link set {inside} up")
        self.settle()
        return outside

    def settle(self) -> None:
        """Wait until the kernel has found out that its own addresses are nobody else's."""
        eventually(lambda: "tentative" not in run("ip", "-n", self.name, "addr").text, "addresses settle", 20)

    def macvlan(self, inside: str, address: str, peer: str) -> str:
        """A macvlan `inside`, whose parent is one end of a pair on the host; the other end, returned, has `peer`."""
        parent, outside = _own_name("ktp"), _own_name("ktv")
        ip("link", "add", parent, "type", "veth", "peer", "name", outside)
        for name in (parent, outside):
            ip("link", "set", name, "up")
        ip("addr", "add", peer, "dev", outside)
        ip("link", "add", "link", parent, "name", inside, "netns", self.name, "type", "macvlan", "mode", "bridge")
        self.ip(f"addr add {address} dev {inside}")
        self.ip(f"link set {inside} up")
        return outside


@contextmanager
def network_namespace() -> Iterator[Netns]:
    """A new one, and nothing of it at the end: pairs go with either of their ends."""
    before = set(_host_links())
    name = _own_name("kt-net-")
    ip("netns", "add", name)
    try:
        yield Netns(name)
    finally:
        if Path("/run/netns", name).exists():
            ip("netns", "delete", name)
        for link in _host_links():
            if link not in before and link.startswith((f"ktv{os.getpid()}.", f"ktp{os.getpid()}.")):
                run("ip", "link", "delete", link)


def _host_links() -> list[str]:
    return sorted(path.name for path in Path("/sys/class/net").iterdir())
