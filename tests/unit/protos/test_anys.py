"""Any: bare type URLs, and bytes that stay as they are."""

from __future__ import annotations

import pytest

from protos import anys
from protos.codec import DecodeError, decode, encode
from protos.gen.containerd.events import TaskExit, TaskOom
from protos.gen.containerd.task.v2 import ExecProcessRequest
from protos.gen.runtimeoptions.v1 import Options
from protos.gen.wellknown import Any
from protos.lean.gen import containerd_task_v2 as lean_task


def test_the_type_url_is_the_bare_full_name():
    packed = anys.pack(TaskOom(container_id="c1"))
    assert packed == Any(type_url="containerd.events.TaskOOM", value=b"\x0a\x02c1")
    assert anys.unpack(packed, TaskOom) == TaskOom(container_id="c1")
    assert anys.type_url(Options) == "runtimeoptions.v1.Options"


def test_a_prefix_is_accepted():
    packed = Any(type_url="type.googleapis.com/containerd.events.TaskOOM", value=b"\x0a\x02c1")
    assert anys.unpack(packed, TaskOom).container_id == "c1"


@pytest.mark.parametrize("url", ["", "containerd.events.TaskOOM", "/", "TaskExit"])
def test_another_type_is_an_error_that_names_both(url):
    with pytest.raises(DecodeError, match=r"not 'containerd.events.TaskExit'"):
        anys.unpack(Any(type_url=url), TaskExit)


def test_invalid_content_is_an_error():
    with pytest.raises(DecodeError, match="TaskOom: field 1 is truncated"):
        anys.unpack(Any(type_url="containerd.events.TaskOOM", value=b"\x0a\x05"), TaskOom)


def test_a_class_that_is_no_rich_message_has_no_type_url():
    with pytest.raises(TypeError, match="StateRequest is not a rich message class"):
        anys.type_url(lean_task.StateRequest)


@pytest.mark.parametrize("value", [b"", b"\x00", b'{"args": ["sh"]}', bytes(range(256)) * 40])
def test_any_keeps_its_bytes(value):
    request = ExecProcessRequest(id="c1", spec=Any(type_url=anys.PROCESS_URL, value=value))
    assert decode(ExecProcessRequest, encode(request)).spec.value == value
    assert decode(lean_task.ExecProcessRequest, encode(request)).spec.value == value
