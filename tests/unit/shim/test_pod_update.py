"""What `UpdateSandbox` asks for, as each containerd writes it."""

from __future__ import annotations

import json

import pytest

from protos import anys
from protos.gen.containerd.runtime.sandbox.v1 import UpdateSandboxRequest
from protos.gen.containerd.types import Sandbox
from protos.gen.wellknown import Any as AnyMessage
from sandbox.errors import InvalidArgumentError
from shim import pod_update

#: As containerd 2.4.2 writes it: Go's names for the outer fields, CRI's for the inner ones, and no zeros.
_VALUE = (
    b'{"Overhead":{"memory_limit_in_bytes":1048576},"Resources":{"cpu_period":100000,"cpu_quota":150000,'
    b'"cpu_shares":512,"memory_limit_in_bytes":268435456,"oom_score_adj":-997,"hugepage_limits":[{"page_size":"2MB"}]}}'
)


def _request(value: bytes, url: str = "io.containerd.cri.v1/UpdatedResources") -> UpdateSandboxRequest:
    extensions = {
        "metadata": AnyMessage(type_url="another", value=b"{"),
        "updated-resources": AnyMessage(type_url=url, value=value),
    }
    return UpdateSandboxRequest(sandbox_id="s1", sandbox=Sandbox(extensions=extensions), fields=["extensions"])


def test_limits_are_those_of_the_extension_that_cri_adds_to_the_sandbox() -> None:
    limits = json.loads(pod_update.resources(_request(_VALUE)) or b"")

    assert limits == {"cpu": {"period": 100000, "quota": 150000, "shares": 512}, "memory": {"limit": 268435456}}


def test_a_limit_that_nobody_names_is_none() -> None:
    limits = json.loads(pod_update.resources(_request(b'{"Resources":{"cpu_shares":2}}')) or b"")

    assert limits == {"cpu": {"shares": 2}, "memory": {}}


@pytest.mark.parametrize(
    "message",
    [
        UpdateSandboxRequest(),
        UpdateSandboxRequest(sandbox=Sandbox(labels={"a": "b"}), fields=["labels"]),
        _request(b'{"Overhead":null,"Resources":null}'),
    ],
    ids=["nothing", "a sandbox without them", "null"],
)
def test_an_update_without_limits_has_none(message: UpdateSandboxRequest) -> None:
    assert pod_update.resources(message) is None


def test_the_field_of_older_versions_is_taken_as_it_is() -> None:
    limits = AnyMessage(type_url=anys.LINUX_RESOURCES_URL, value=b'{"memory":{"limit":1}}')

    assert pod_update.resources(UpdateSandboxRequest(resources=limits)) == b'{"memory":{"limit":1}}'


@pytest.mark.parametrize(
    ("request_", "match"),
    [
        (_request(_VALUE, "windows"), "windows"),
        (_request(b'{"Resources":{"cpu_quota":"all"}}'), "cpu_quota"),
        (_request(b"{"), "updated-resources"),
    ],
    ids=["type", "value", "no JSON"],
)
def test_what_is_no_update_of_cri_is_refused(request_: UpdateSandboxRequest, match: str) -> None:
    with pytest.raises(InvalidArgumentError, match=match):
        pod_update.resources(request_)
