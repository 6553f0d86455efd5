"""Contract: `linux.cgroupsPath` means the same cgroup as under runc, in both forms, and nothing else."""

from __future__ import annotations

import pytest

from sandbox.errors import InvalidArgumentError
from sandbox.resources.cgroup_path import cgroup_path, slice_path


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("/kubepods/burstable/pod12/abc", "kubepods/burstable/pod12/abc"),
        ("/default/abc", "default/abc"),
        ("relative/abc", "kata/relative/abc"),
        ("", "kata/pod"),
        (
            "kubepods-besteffort-pod1_2.slice:cri-containerd:abc",
            "kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod1_2.slice/cri-containerd-abc.scope",
        ),
        (":runc:abc", "system.slice/runc-abc.scope"),
        ("a.slice::abc", "a.slice/abc.scope"),
        ("a.slice:p:b.slice", "a.slice/b.slice"),
    ],
)
def test_path_below_the_root_of_a_hierarchy(text, path):
    assert cgroup_path(text, "pod") == path


@pytest.mark.parametrize(
    "text",
    [
        "/../etc", "/a/../../b", "/a//b", "/", "/a\nb", "/" + "x" * 256, "/" + "a/" * 4096,
        "a:b", "a.slice:b:", "a.slice:b:c:d", "a:b:c", "a--b.slice:b:c", "../a.slice:b:c", "a.slice:b:../c",
    ],
)  # fmt: skip
def test_what_is_no_cgroup_is_refused(text):
    with pytest.raises(InvalidArgumentError):
        cgroup_path(text, "pod")


def test_slices_are_nested_by_their_dashes():
    assert slice_path("a-b-c.slice") == "a.slice/a-b.slice/a-b-c.slice"
    assert slice_path("-.slice") == ""
