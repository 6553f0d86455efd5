"""Google's protobuf as the oracle of our codecs: dynamic classes for every message in `protos/src`."""

from __future__ import annotations

import importlib
import pkgutil
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from betterproto2_compiler.compile.naming import pythonize_class_name, pythonize_field_name
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from grpc_tools import protoc

import protos.gen
from protos.gen.message_pool import default_message_pool
from protos.lean.generator.modules import PACKAGES

SOURCES = Path(protos.__path__[0]) / "src"

_STRINGS = ["", "a", "/run/containerd/io.containerd.runtime.v2.task", "ünï\u20ac\U0001f600", "x" * 300, "\x00"]
_NUMBERS = {
    "int32": [0, 1, -1, 127, 128, 2**31 - 1, -(2**31)],
    "int64": [0, 1, -1, 300, 2**63 - 1, -(2**63), -62_135_596_800],
    "uint32": [0, 1, 127, 128, 2**32 - 1],
    "uint64": [0, 1, 255, 2**32, 2**64 - 1],
    "bool": [False, True],
    "double": [0.0, -0.0, 1.5, -1e300, float("inf"), 5e-324],
    "string": _STRINGS,
    "bytes": [b"", b"\x00", b"\xff" * 200, b"data"],
}


class Oracle:
    """Google's dynamic classes, by full name, and how they correspond to ours."""

    def __init__(self, descriptor_set: bytes) -> None:
        self._pool = descriptor_pool.DescriptorPool()
        for file in descriptor_pb2.FileDescriptorSet.FromString(descriptor_set).file:
            self._pool.Add(file)

    def type(self, full_name: str) -> Any:
        """Google's class of that name."""
        return message_factory.GetMessageClass(self._pool.FindMessageTypeByName(full_name))

    def random(self, full_name: str, source: random.Random) -> Any:
        """A message with random fields, drawn from values at the edges of their types."""
        message = self.type(full_name)()
        _fill(message, source, depth=0)
        return message


def _kind(field: Any) -> str:
    return next(
        name[5:].lower()
        for name, value in vars(type(field)).items()
        if name.startswith("TYPE_") and value == field.type
    )


def _value(field: Any, source: random.Random) -> Any:
    if field.enum_type is not None:
        return source.choice([*(v.number for v in field.enum_type.values), 77, -5])
    return source.choice(_NUMBERS[_kind(field)])


def _fill(message: Any, source: random.Random, depth: int) -> None:
    for field in message.DESCRIPTOR.fields:
        if source.random() < 0.3 + 0.15 * depth:
            continue
        target = getattr(message, field.name)
        is_map = field.message_type is not None and field.message_type.GetOptions().map_entry
        if is_map:
            value = field.message_type.fields_by_name["value"]
            for key in source.sample(_STRINGS, source.randrange(4)):
                if value.message_type is None:
                    target[key] = _value(value, source)
                else:
                    _fill(target[key], source, depth + 1)
        elif field.is_repeated:
            for _ in range(source.randrange(4)):
                if field.message_type is None:
                    target.append(_value(field, source))
                else:
                    _fill(target.add(), source, depth + 1)
        elif field.message_type is not None:
            target.SetInParent()
            _fill(target, source, depth + 1)
        else:
            setattr(message, field.name, _value(field, source))


def _assert_same(ours: Any, theirs: Any) -> None:
    """Each attribute of our message equals the field of Google's, presence included."""
    for field in theirs.DESCRIPTOR.fields:
        own, other = getattr(ours, pythonize_field_name(field.name)), getattr(theirs, field.name)
        where = f"{theirs.DESCRIPTOR.full_name}.{field.name}"
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            assert own.keys() == other.keys(), where
            pairs = [(own[key], other[key]) for key in own]
        elif field.is_repeated:
            assert len(own) == len(other), where
            pairs = list(zip(own, other, strict=True))
        elif field.has_presence and not theirs.HasField(field.name):
            assert own is None, where
            pairs = []
        else:
            pairs = [(own, other)]
        for mine, yours in pairs:
            if hasattr(yours, "DESCRIPTOR"):
                _assert_same(mine, yours)
            else:
                assert mine == yours or (mine != mine and yours != yours), where
                assert isinstance(mine, type(yours)), where


def _load_rich() -> dict[str, type]:
    for module in pkgutil.walk_packages(protos.gen.__path__, "protos.gen."):
        importlib.import_module(module.name)
    return {url.rpartition("/")[2]: message for url, message in default_message_pool.url_to_type.items()}


RICH = _load_rich()


def _load_lean() -> dict[str, type]:
    found = {}
    for full_name in RICH:
        package = max((p for p in PACKAGES if full_name.startswith(f"{p}.")), key=len, default="")
        if package:
            module = importlib.import_module(f"protos.lean.gen.{package.replace('.', '_')}")
            found[full_name] = getattr(module, pythonize_class_name(full_name[len(package) + 1 :]))
    return found


LEAN = _load_lean()
FLAVOURS = {**{f"rich-{n}": (n, t) for n, t in RICH.items()}, **{f"lean-{n}": (n, t) for n, t in LEAN.items()}}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """`message` stands for (full name, class), for every message in both flavours."""
    if "message" in metafunc.fixturenames:
        metafunc.parametrize("message", FLAVOURS.values(), ids=FLAVOURS.keys())


@pytest.fixture(scope="session")
def oracle(tmp_path_factory: pytest.TempPathFactory) -> Oracle:
    """Descriptors come straight from the sources, not by way of the generated code."""
    out = tmp_path_factory.mktemp("descriptors") / "set.binpb"
    sources = [str(p.relative_to(SOURCES)) for p in sorted(SOURCES.rglob("*.proto"))]
    assert protoc.main(["protoc", f"-I{SOURCES}", f"--descriptor_set_out={out}", *sources]) == 0
    return Oracle(out.read_bytes())


@pytest.fixture(scope="session")
def assert_same() -> Callable[[Any, Any], None]:
    """Compares one of our messages with one of Google's, attribute by attribute."""
    return _assert_same


@pytest.fixture(scope="session")
def flavours() -> dict[str, tuple[str, type]]:
    """(full name, class) of every message in both flavours."""
    return FLAVOURS


@pytest.fixture(scope="session")
def rich_types() -> dict[str, type]:
    """The rich classes by full name."""
    return RICH


@pytest.fixture(scope="session")
def lean_types() -> dict[str, type]:
    """The lean classes by full name."""
    return LEAN
