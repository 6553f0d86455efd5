"""Lean modules: the names of the rich ones, nothing but themselves to import, and services that can be served."""

from __future__ import annotations

import dataclasses
import inspect
import json
import subprocess
import sys
from pathlib import Path

import pytest
from grpclib import GRPCError
from grpclib.const import Cardinality
from grpclib.const import Status as Code

import protos
from protos.gen import grpc as rich
from protos.gen.wellknown import Empty
from protos.lean.gen import grpc as lean
from protos.lean.gen import wellknown

pytestmark = pytest.mark.anyio

_ROOT = Path(protos.__file__).parent.parent
_MODULES = sorted(p.stem for p in (_ROOT / "protos/lean/gen").glob("[a-z]*.py"))

_PROBE = """
import json, sys
before = set(sys.modules)
sys.path.insert(0, sys.argv[1])

for name in sys.argv[2:]:
    __import__(name)
print(json.dumps(sorted(set(sys.modules) - before)))
"""


def _imported(*names: str) -> set[str]:
    """What importing `names` brings in, in an interpreter that has the standard library and this project only."""
    command = [sys.executable, "-I", "-S", "-c", _PROBE, str(_ROOT), *names]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
    return set(json.loads(done.stdout))


def test_both_flavours_of_a_message_have_the_same_attributes_in_the_same_words(lean_types, rich_types):
    for full_name, message_type in lean_types.items():
        rich_type = rich_types[full_name]
        assert message_type.__name__ == rich_type.__name__
        assert set(message_type.__slots__) == {f.name for f in dataclasses.fields(rich_type)}, full_name


def test_every_lean_message_has_a_rich_one(lean_types):
    for module in _MODULES:
        classes = inspect.getmembers(sys.modules[f"protos.lean.gen.{module}"], inspect.isclass)
        own = [c for _, c in classes if c.__module__ == f"protos.lean.gen.{module}" and hasattr(c, "FromString")]
        assert set(own) <= set(lean_types.values())


def test_both_flavours_have_the_same_defaults_and_enum_values(lean_types, rich_types):
    for full_name, message_type in lean_types.items():
        ours, theirs = message_type(), rich_types[full_name]()
        for name in message_type.__slots__:
            assert getattr(ours, name) == getattr(theirs, name), f"{full_name}.{name}"
    for name in ("HealthCheckResponseServingStatus", "VolumeUsageUnit"):
        members = {k: v for k, v in vars(getattr(lean, name)).items() if not k.startswith("_")}
        assert members == {m.name: m.value for m in getattr(rich, name)}


def test_lean_constructors_take_fields_by_name_only():
    with pytest.raises(TypeError):
        lean.StartContainerRequest("c1")
    with pytest.raises(TypeError):
        lean.StartContainerRequest(container="c1")


@pytest.mark.parametrize("module", _MODULES)
def test_a_lean_module_imports_lean_modules_only(module):
    imported = _imported(f"protos.lean.gen.{module}")
    assert f"protos.lean.gen.{module}" in imported
    assert {name for name in imported if name != "protos" and not name.startswith("protos.lean")} == set()
    assert not any(name.startswith("protos.lean.generator") for name in imported)


def test_the_start_path_imports_no_more_than_it_names():
    imported = _imported("protos.lean.gen.containerd_runtime_bootstrap_v1", "protos.lean.gen.runtimeoptions_v1")
    generated = {name.rpartition(".")[2] for name in imported if name.startswith("protos.lean.gen.")}
    assert generated == {"containerd_runtime_bootstrap_v1", "runtimeoptions_v1", "wellknown"}


def test_the_codec_and_timestamps_leave_the_rich_runtime_alone():
    imported = _imported("protos.codec", "protos.timestamps", "protos.lean.gen.grpc")
    assert not {name for name in imported if name.startswith(("betterproto2", "grpclib", "protos.gen", "google"))}


class _Stream:
    """A call with one request, as a server hands it to a handler."""

    def __init__(self, request: object) -> None:
        self._request = request
        self.sent: list[object] = []

    async def recv_message(self) -> object:
        return self._request

    async def send_message(self, message: object) -> None:
        self.sent.append(message)


class _Agent(lean.AgentServiceBase):
    async def wait_process(self, message: lean.WaitProcessRequest) -> lean.WaitProcessResponse:
        return lean.WaitProcessResponse(status=len(message.container_id))


async def test_a_handler_passes_the_request_and_sends_the_reply():
    handler = _Agent().__mapping__()["/grpc.AgentService/WaitProcess"]
    stream = _Stream(lean.WaitProcessRequest(container_id="abc"))
    await handler.func(stream)
    assert stream.sent == [lean.WaitProcessResponse(status=3)]


async def test_a_method_that_is_not_overridden_is_unimplemented():
    for handler in lean.HealthBase().__mapping__().values():
        with pytest.raises(GRPCError) as caught:
            await handler.func(_Stream(lean.CheckRequest()))
        assert caught.value.status is Code.UNIMPLEMENTED


@pytest.mark.parametrize("name", ["AgentServiceBase", "HealthBase"])
def test_lean_and_rich_services_offer_the_same_methods(name):
    ours, theirs = getattr(lean, name)().__mapping__(), getattr(rich, name)().__mapping__()
    assert ours.keys() == theirs.keys()
    for route, handler in ours.items():
        assert handler.cardinality is theirs[route].cardinality is Cardinality.UNARY_UNARY
        assert handler.request_type.__name__ == theirs[route].request_type.__name__
        assert handler.reply_type.__name__ == theirs[route].reply_type.__name__


def test_methods_have_the_same_names_in_both_flavours():
    def methods(base: type) -> set[str]:
        return {n for n, f in vars(base).items() if inspect.iscoroutinefunction(f) and "rpc_" not in n}

    assert methods(lean.AgentServiceBase) == methods(rich.AgentServiceBase)
    assert lean.AgentServiceBase().__mapping__()["/grpc.AgentService/StartContainer"].reply_type is wellknown.Empty
    assert rich.AgentServiceBase().__mapping__()["/grpc.AgentService/StartContainer"].reply_type is Empty
