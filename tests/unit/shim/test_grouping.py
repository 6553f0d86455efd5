"""A container of a pod is grouped with its sandbox; everything else stands for itself."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shim.errors import ShimError
from shim.grouping import MAX_CONFIG, group_of, parse_annotations, read_annotations

_CRI = "io.kubernetes.cri."
_CRIO = "io.kubernetes.cri-o."


@pytest.mark.parametrize(
    ("annotations", "sandbox", "is_member"),
    [
        ({}, "own", False),
        ({_CRI + "container-type": "sandbox", _CRI + "sandbox-id": "own"}, "own", False),
        ({_CRI + "container-type": "container", _CRI + "sandbox-id": "pod"}, "pod", True),
        ({_CRIO + "ContainerType": "sandbox"}, "own", False),
        ({_CRIO + "ContainerType": "container", _CRIO + "SandboxID": "pod"}, "pod", True),
    ],
)
def test_the_annotations_decide(annotations: dict[str, str], sandbox: str, is_member: bool) -> None:
    group = group_of("own", annotations)

    assert (group.sandbox_id, group.is_member) == (sandbox, is_member)


@pytest.mark.parametrize(
    "annotations",
    [
        {_CRI + "container-type": "container"},
        {_CRI + "container-type": "nonsense"},
        {_CRI + "container-type": "container", _CRI + "sandbox-id": "../../etc"},
    ],
)
def test_contradictions_are_one_line_errors(annotations: dict[str, str]) -> None:
    with pytest.raises(ShimError) as raised:
        group_of("own", annotations)

    assert "\n" not in str(raised.value)


def test_a_bundle_without_a_spec_has_no_annotations(tmp_path: Path) -> None:
    assert read_annotations(str(tmp_path)) is None


def test_annotations_are_read_from_the_spec(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('\n {"ociVersion": "1.0.2", "annotations": {"a": "b"}}\n')

    assert read_annotations(str(tmp_path)) == {"a": "b"}


def test_an_endless_spec_is_refused(tmp_path: Path) -> None:
    with (tmp_path / "config.json").open("wb") as file:
        file.truncate(MAX_CONFIG + 1)

    with pytest.raises(ShimError, match="larger than"):
        read_annotations(str(tmp_path))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"   ",
        b"{",
        b"[]",
        b"null",
        b"\xff\xfe",
        b'{"annotations": []}',
        b'{"annotations": {"a": 1}}',
        b"{} x",
        b"[" * 100_000,
    ],
)
def test_a_malformed_spec_is_an_error_that_names_the_file(data: bytes) -> None:
    with pytest.raises(ShimError, match=r"config\.json"):
        parse_annotations(data)


@pytest.mark.parametrize("data", [b"{}", b'{"annotations": null}', b'{"annotations": {}}'])
def test_annotations_may_be_absent(data: bytes) -> None:
    assert parse_annotations(data) == {}


@given(st.dictionaries(st.text(), st.text()), st.sampled_from(["", " ", "\n\t"]))
def test_reads_what_the_json_library_writes(annotations: dict[str, str], space: str) -> None:
    document = space + json.dumps({"x": [1, 2.5, True, None, {"y": "z"}], "annotations": annotations}) + space

    assert parse_annotations(document.encode()) == annotations
