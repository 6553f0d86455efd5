"""Contract: a config.json is read as the runtime-spec says, and a malformed one is refused with the faulty value."""

from __future__ import annotations

import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox import oci
from sandbox.errors import InvalidArgumentError, SandboxError

MINIMAL = {"ociVersion": "1.0.2", "process": {"args": ["sh"], "cwd": "/"}, "root": {"path": "rootfs"}}


def write(bundle, value) -> None:
    (bundle / "config.json").write_text(value if isinstance(value, str) else json.dumps(value))


def test_names_of_the_specification_are_read(tmp_path):
    write(
        tmp_path,
        MINIMAL
        | {
            "linux": {
                "resources": {
                    "memory": {"disableOOMKiller": True, "kernelTCP": 7},
                    "blockIO": {"weight": 10},
                    "hugepageLimits": [{"pageSize": "2MB", "limit": 9}],
                },
                "seccomp": {"defaultAction": "SCMP_ACT_ERRNO"},
                "maskedPaths": ["/proc/kcore"],
            }
        },
    )
    linux = oci.load_spec(tmp_path).linux
    assert linux.resources is not None
    assert linux.resources.memory == oci.Memory(disable_oom_killer=True, kernel_tcp=7)
    assert linux.resources.block_io == oci.BlockIo(weight=10)
    assert linux.resources.hugepage_limits == [oci.HugepageLimit("2MB", 9)]
    assert linux.seccomp == oci.Seccomp("SCMP_ACT_ERRNO")
    assert linux.masked_paths == ["/proc/kcore"]


def test_unknown_keys_are_ignored(tmp_path):
    write(tmp_path, MINIMAL | {"vm": {"kernel": {}}, "x-vendor": [1]})
    assert oci.load_spec(tmp_path).root.path == "rootfs"


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("", "truncated"),
        ("{", "truncated"),
        ("[]", "Expected `object`"),
        ("{}", "missing required field `root`"),
        (MINIMAL | {"process": {"args": [], "cwd": "/"}}, "process.args is empty"),
        (MINIMAL | {"process": {"args": ["sh"], "cwd": "tmp"}}, "not an absolute path"),
        (MINIMAL | {"process": {"args": ["s\0h"], "cwd": "/"}}, "NUL"),
        (MINIMAL | {"process": {"args": "sh", "cwd": "/"}}, r"\$\.process\.args"),
        (MINIMAL | {"linux": {"resources": {"memory": {"limit": "1Gi"}}}}, r"\$\.linux\.resources\.memory\.limit"),
        ("[" * 100_000, "config.json"),
    ],
)
def test_a_malformed_spec_names_the_file_and_the_fault(tmp_path, value, message):
    write(tmp_path, value)
    with pytest.raises(InvalidArgumentError, match=message) as caught:
        oci.load_spec(tmp_path)
    assert "config.json" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_spec_names_the_path(tmp_path):
    with pytest.raises(InvalidArgumentError, match=r"config\.json: No such file"):
        oci.load_spec(tmp_path)


def test_a_spec_of_unreasonable_size_is_not_read(tmp_path):
    with (tmp_path / "config.json").open("wb") as file:
        file.truncate(oci.MAX_SPEC_BYTES + 1)
    with pytest.raises(InvalidArgumentError, match="larger than 16 MiB"):
        oci.load_spec(tmp_path)


@given(st.binary(max_size=300))
def test_any_bytes_give_a_spec_or_a_sandbox_error(data):
    with suppress(SandboxError):
        assert isinstance(oci.decode(data, oci.Spec, "config.json"), oci.Spec)


@pytest.mark.parametrize(
    ("hook", "problem"),
    [
        ({"path": "bin/hook"}, "not absolute"),
        ({"path": "/h", "timeout": 0}, "timeout 0"),
        ({"path": "/h", "timeout": -1}, "timeout -1"),
        ({"path": "/h", "timeout": 10**9}, "timeout"),
        ({"path": "/h", "args": ["a\0"]}, "NUL"),
        ({"path": "/h", "env": ["NAME"]}, "NAME=value"),
        ({"path": "/h", "env": ["=x"]}, "NAME=value"),
    ],
)
@pytest.mark.parametrize("kind", ["prestart", "startContainer", "poststop"])
def test_a_hook_that_nobody_can_run_is_refused_with_its_name(tmp_path, kind, hook, problem):
    write(tmp_path, MINIMAL | {"hooks": {kind: [hook]}})
    with pytest.raises(InvalidArgumentError, match=f"hook {hook['path']!r}.*{problem}"):
        oci.load_spec(tmp_path)


def test_too_many_hooks_are_refused(tmp_path):
    write(tmp_path, MINIMAL | {"hooks": {"prestart": [{"path": "/h"}] * 65}})
    with pytest.raises(InvalidArgumentError, match="65 prestart hooks"):
        oci.load_spec(tmp_path)
