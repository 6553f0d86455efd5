"""A request as its policy sees it: the name of its rule, and JSON in the field names of Kata's proto files. Pure.

As Kata's agent writes it: every field is there, with its zero if it was not sent; an absent message or optional field
is null; enums are numbers and bytes are lists of numbers. CopyFile comes without its data and with `file_type` and
`symlink_target` instead. Ours: other bytes of more than `MAX_BYTES` are null, which no rule that looks at them allows.
"""

from __future__ import annotations

import re
import stat
from typing import TYPE_CHECKING, Any

from guest.agent.errors import InvalidArgumentError

if TYPE_CHECKING:
    from protos.lean.message import Message

MAX_BYTES = 4096

#: Classes whose protobuf name is not theirs, of those that are requests.
_RULES = {
    "AddArpNeighborsRequest": "AddARPNeighborsRequest",
    "GetIpTablesRequest": "GetIPTablesRequest",
    "GetOomEventRequest": "GetOOMEventRequest",
    "OnlineCpuMemRequest": "OnlineCPUMemRequest",
    "SetIpTablesRequest": "SetIPTablesRequest",
}
#: The messages of oci.proto that write their fields in capitals: `oom_score_adj` is `OOMScoreAdj` there.
_CAPITALIZED = re.compile("Box|Hooks?|Linux[A-Za-z]*|PosixRlimit|Process|Root|Spec|User")
_ACRONYMS = {word: word.upper() for word in ("cpu", "gid", "id", "io", "iops", "oom", "tcp", "uid")}
#: Fields of other messages, and of these, that no rule gives.
_FIELDS = {
    ("AddSwapRequest", "pci_path"): "PCIPath",
    ("ArpNeighbor", "to_ip_address"): "toIPAddress",
    ("ArpNeighbors", "arp_neighbors"): "ARPNeighbors",
    ("CreateContainerRequest", "oci"): "OCI",
    ("Interface", "device_path"): "devicePath",
    ("Interface", "hw_addr"): "hwAddr",
    ("Interface", "ip_addresses"): "IPAddresses",
    ("Interfaces", "interfaces"): "Interfaces",
    ("LinuxSyscall", "errnoret"): "errnoret",
    ("MemHotplugByProbeRequest", "mem_hotplug_probe_addr"): "memHotplugProbeAddr",
    ("Routes", "routes"): "Routes",
    ("SetGuestDateTimeRequest", "sec"): "Sec",
    ("SetGuestDateTimeRequest", "usec"): "Usec",
    ("StringUser", "additional_gids"): "additionalGids",
}
_FILE_TYPES = {stat.S_IFREG: "Regular", stat.S_IFDIR: "Directory", stat.S_IFLNK: "Symlink"}


def rule_of(message_type: type[Message]) -> str:
    """The name of the rule that decides about such messages: that of the type in Kata's proto files."""
    return _RULES.get(message_type.__name__, message_type.__name__)


def input_of(message: Message) -> dict[str, Any]:
    """The `input` document of the rule."""
    document = {field_name(type(message).__name__, name): _value(getattr(message, name)) for name in message.__slots__}
    if type(message).__name__ == "CopyFileRequest":
        _describe_copy(document, message)
    return document


def field_name(message: str, field: str) -> str:
    """How the proto file writes the attribute `field` of the class `message`."""
    written = _FIELDS.get((message, field))
    if written is not None:
        return written
    return _capitalized(field) if _CAPITALIZED.fullmatch(message) else field


def _capitalized(field: str) -> str:
    return "".join(_ACRONYMS.get(word) or word[:1].upper() + word[1:] for word in field.split("_"))


def _value(value: Any) -> Any:
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, (bytes, bytearray)):
        return list(value) if len(value) <= MAX_BYTES else None
    if isinstance(value, list):
        return [_value(item) for item in value]
    if isinstance(value, dict):
        return {key: _value(item) for key, item in value.items()}
    return input_of(value)


def _describe_copy(document: dict[str, Any], message: Any) -> None:
    del document["data"]
    kind = stat.S_IFMT(message.file_mode)
    document["file_type"] = _FILE_TYPES.get(kind, "Unknown")
    document["symlink_target"] = None
    if kind == stat.S_IFLNK:
        try:
            document["symlink_target"] = message.data.decode()
        except UnicodeDecodeError as error:
            raise InvalidArgumentError("the target of the link is not UTF-8") from error
