"""Which containerd a bed runs."""

from __future__ import annotations

import pytest

from tests.harness import containerd_version


@pytest.mark.parametrize(
    ("said", "release"),
    [
        ("containerd github.com/containerd/containerd 1.6.20~ds1 1.6.20~ds1-1+deb12u3", (1, 6)),
        ("containerd github.com/containerd/containerd v1.7.35 ", (1, 7)),
        ("containerd github.com/containerd/containerd/v2 v2.4.2 1ab23", (2, 4)),
        ("containerd github.com/containerd/containerd/v2 v2.10.0-rc.1", (2, 10)),
    ],
)
def test_a_release_is_read_from_what_containerd_says_of_itself(said, release):
    assert containerd_version.parse_release(said) == release


def test_an_answer_without_a_release_is_an_error_that_cites_it():
    with pytest.raises(ValueError, match="no such program"):
        containerd_version.parse_release("no such program")


def test_programs_are_those_on_path_unless_a_directory_is_named(monkeypatch, tmp_path):
    monkeypatch.delenv("BED_CONTAINERD", raising=False)
    usual = containerd_version.program("ctr"), containerd_version.search_path("/shim", "/usr/bin:/bin")

    monkeypatch.setenv("BED_CONTAINERD", str(tmp_path))
    chosen = containerd_version.program("ctr"), containerd_version.search_path("/shim", "/usr/bin:/bin")

    assert usual == ("ctr", "/shim:/usr/bin:/bin")
    assert chosen == (f"{tmp_path}/ctr", f"/shim:{tmp_path}:/usr/bin:/bin")
