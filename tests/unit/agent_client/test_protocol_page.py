"""docs/agent-protocol.md says what the code does: every RPC, its method, its deadline, the modules that serve it."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent_client import deadlines
from agent_client.client import AgentClient
from agent_client.limits import SMALL
from agent_client.network import Network
from agent_client.ports import Ports
from agent_client.storage import Storages
from agent_client.upkeep import Upkeep
from protos.gen import grpc as pb

PROJECT = Path(__file__).resolve().parents[3]
PAGE = (PROJECT / "docs" / "agent-protocol.md").read_text()
GROUPS = {"network": Network, "ports": Ports, "storage": Storages, "upkeep": Upkeep}


def rows() -> Iterator[tuple[list[str], list[str], str, list[str]]]:
    """RPCs, client methods, deadline and guest modules of each row of the table of RPCs."""
    table = PAGE.partition("| RPC | Client |")[2].partition("\n\n")[0]
    for line in table.splitlines()[2:]:
        rpcs, methods, seconds, modules = (cell.strip() for cell in line.strip("|").split("|")[:4])
        yield rpcs.split(", "), re.findall(r"`([^`]+)`", methods), seconds, re.findall(r"`([^`]+)`", modules)


def names(methods: list[str]) -> Iterator[str]:
    """The methods with their group; `.b` after `a.x` means `a.b`, and `a.x_*_y` stands for all that match."""
    group = ""
    for method in methods:
        head, dot, name = method.rpartition(".")
        group = head or (group if dot else "")
        owner = GROUPS[group] if group else AgentClient
        found = [item for item in dir(owner) if re.fullmatch(name.replace("*", ".*"), item)]
        assert found, f"{method} is no method"
        yield from (f"{group}.{item}" if group else item for item in found)


def test_every_rpc_is_told_of():
    services = (pb.AgentServiceBase(), pb.PortsBase(), pb.HealthBase())
    routes = [route for service in services for route in service.__mapping__()]
    served = {route.rpartition("/")[2] for route in routes}

    assert {rpc.removeprefix("Health.").removeprefix("Ports.") for rpcs, *_ in rows() for rpc in rpcs} == served


def test_every_method_that_is_an_rpc_is_told_of_with_its_deadline():
    told = {name: seconds for _, methods, seconds, _ in rows() for name in names(methods)}
    real = {}
    for group, owner in {"": AgentClient, **GROUPS}.items():
        for name, method in inspect.getmembers(owner, inspect.iscoroutinefunction):
            if "timeout" in inspect.signature(method).parameters and name not in {"connect", "reconnect"}:
                default = inspect.signature(method).parameters["timeout"].default
                real[f"{group}.{name}" if group else name] = "-" if default is None else f"{default:g}"

    assert told == real
    assert deadlines.UNLIMITED is None


@pytest.mark.parametrize("module", sorted({module for *_, modules in rows() for module in modules}))
def test_every_module_that_is_named_exists(module):
    place = PROJECT / "guest" / "agent" / module

    assert place.is_dir() if module.endswith("/") else place.with_suffix(".py").is_file()


@pytest.mark.parametrize(
    "path", sorted(set(re.findall(r"`((?:guest|agent_client|sandbox|tests|protos)/[\w/]+\.\w+)`", PAGE)))
)
def test_every_file_that_is_named_exists(path):
    assert (PROJECT / path).is_file()


def test_the_limit_that_is_told_is_the_limit():
    assert f"{SMALL // 1024} KiB for most" in PAGE
