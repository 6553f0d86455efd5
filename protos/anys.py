"""Messages inside `Any`, the way containerd does it: the type URL is the bare full name, without any prefix.

containerd compares type URLs exactly (`io.containerd.cgroups.v2.Metrics`), so the customary
`type.googleapis.com/` is never written; it is accepted, as protobuf's rule is to look behind the last slash.
JSON documents of the OCI runtime-spec travel in Any too, under the URLs below, which containerd registered for them.
"""

from __future__ import annotations

from typing import Any as AnyValue
from typing import TypeVar

from protos.codec import DecodeError, decode, encode
from protos.gen.message_pool import default_message_pool
from protos.gen.wellknown import Any

T = TypeVar("T")

_RUNTIME_SPEC = "types.containerd.io/opencontainers/runtime-spec/1/"
# A whole config.json.
SPEC_URL = _RUNTIME_SPEC + "Spec"
# The process of an exec, in ExecProcessRequest.spec.
PROCESS_URL = _RUNTIME_SPEC + "Process"
# The resources of an update, in UpdateTaskRequest.resources.
LINUX_RESOURCES_URL = _RUNTIME_SPEC + "LinuxResources"
# What a runtime can do, in RuntimeInfo.features.
FEATURES_URL = _RUNTIME_SPEC + "features/Features"


def type_url(message_type: type) -> str:
    """The full protobuf name of a rich message class, which is its type URL; TypeError for any other class."""
    try:
        return default_message_pool.type_to_url[message_type].rpartition("/")[2]
    except KeyError as error:
        raise TypeError(f"{message_type.__name__} is not a rich message class") from error


def pack(message: AnyValue) -> Any:
    """A rich message as Any."""
    return Any(type_url=type_url(type(message)), value=encode(message))


def unpack(packed: Any, message_type: type[T]) -> T:
    """The message in `packed`; DecodeError if it is of another type, or not valid."""
    expected = type_url(message_type)
    if packed.type_url.rpartition("/")[2] != expected:
        raise DecodeError(f"Any holds {packed.type_url or 'no type'!r}, not {expected!r}")
    return decode(message_type, packed.value)
