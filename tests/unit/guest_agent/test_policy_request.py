"""Requests as a policy sees them: Kata's names, Kata's shape."""

from __future__ import annotations

import re
import stat
from pathlib import Path

import pytest

from guest.agent.errors import InvalidArgumentError
from guest.agent.policy import request
from protos.lean.gen import grpc, types
from protos.lean.message import Message

SOURCES = Path(grpc.__file__).parents[2] / "src"
_MESSAGE = re.compile(r"^message (\w+) \{(\}|.*?^\})", re.MULTILINE | re.DOTALL)
_FIELD = re.compile(r"^\s*(?:repeated |optional )?(?:map<[^>]*>|[\w.]+) (\w+) = (\d+);", re.MULTILINE)


def proto_messages() -> dict[str, list[str]]:
    """Names and field names, in the order of their numbers, as the proto files write them."""
    found = {}
    for name in ("grpc/agent.proto", "grpc/oci.proto", "types/types.proto"):
        text = re.sub(r"//.*", "", (SOURCES / name).read_text())
        for message, body in _MESSAGE.findall(text):
            fields = sorted(_FIELD.findall(body), key=lambda field: int(field[1]))
            found[message] = [field for field, _ in fields]
    return found


MESSAGES = proto_messages()
CLASSES = {
    name.lower(): value
    for module in (grpc, types)
    for name, value in vars(module).items()
    if isinstance(value, type) and issubclass(value, Message)
}


@pytest.mark.parametrize("name", sorted(MESSAGES))
def test_every_field_has_the_name_of_the_proto_file(name: str):
    message = CLASSES[name.lower()]

    assert [request.field_name(message.__name__, field) for field in message.__slots__] == MESSAGES[name]


def test_every_request_of_the_service_has_the_rule_of_its_proto_name():
    rules = {request.rule_of(message) for _, _, message, _ in grpc.AgentServiceBase.METHODS}

    assert rules <= MESSAGES.keys()
    assert {"GetOOMEventRequest", "OnlineCPUMemRequest", "ReadStreamRequest", "MemAgentMemcgConfig"} <= rules


def test_messages_lists_maps_and_absent_ones_are_json():
    message = grpc.CreateContainerRequest(
        container_id="c1",
        oci=grpc.Spec(
            process=grpc.Process(args=["sh"], user=grpc.User(uid=7)),
            linux=grpc.Linux(sysctl={"net.a": "1"}, devices=[grpc.LinuxDevice(path="/dev/x")]),
        ),
    )

    seen = request.input_of(message)

    assert seen["container_id"] == "c1"
    assert seen["OCI"]["Process"]["Args"] == ["sh"]
    assert seen["OCI"]["Process"]["User"]["UID"] == 7
    assert seen["OCI"]["Linux"]["Sysctl"] == {"net.a": "1"}
    assert seen["OCI"]["Linux"]["Devices"][0]["Path"] == "/dev/x"
    assert (seen["string_user"], seen["storages"], seen["OCI"]["Root"]) == (None, [], None)


def test_bytes_are_numbers_as_long_as_they_are_few():
    few = request.input_of(grpc.WriteStreamRequest(data=b"ab"))
    many = request.input_of(grpc.WriteStreamRequest(data=bytes(request.MAX_BYTES + 1)))

    assert (few["data"], many["data"]) == ([97, 98], None)


@pytest.mark.parametrize(
    ("mode", "data", "kind", "target"),
    [
        (stat.S_IFREG | 0o644, b"\xff", "Regular", None),
        (stat.S_IFDIR, b"", "Directory", None),
        (stat.S_IFLNK, b"..data/x", "Symlink", "..data/x"),
        (stat.S_IFSOCK, b"", "Unknown", None),
        (0, b"", "Unknown", None),
    ],
)
def test_a_copied_file_is_told_without_its_data(mode: int, data: bytes, kind: str, target: str | None):
    seen = request.input_of(grpc.CopyFileRequest(path="/x", file_mode=mode, data=data))

    assert "data" not in seen
    assert (seen["path"], seen["file_type"], seen["symlink_target"]) == ("/x", kind, target)


def test_a_link_whose_target_is_no_text_is_refused():
    with pytest.raises(InvalidArgumentError):
        request.input_of(grpc.CopyFileRequest(file_mode=stat.S_IFLNK, data=b"\xff"))
