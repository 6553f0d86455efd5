"""The command line is read as Go's flag package reads it."""

from __future__ import annotations

import pytest

from shim import cli
from shim.errors import ShimError


def test_reads_what_containerd_1_6_passes_to_start() -> None:
    line = "-namespace k8s.io -address /run/containerd/containerd.sock -publish-binary /usr/bin/containerd -id c1 start"

    invocation = cli.parse(line.split())

    assert invocation.action == "start"
    assert invocation.namespace == "k8s.io"
    assert invocation.address == "/run/containerd/containerd.sock"
    assert invocation.publish_binary == "/usr/bin/containerd"
    assert invocation.id == "c1"
    assert not invocation.debug


def test_reads_what_containerd_passes_to_delete() -> None:
    line = "-namespace n -address a -publish-binary b -id c1 -bundle /run/x/c1 -debug delete"

    invocation = cli.parse(line.split())

    assert (invocation.action, invocation.bundle, invocation.debug) == ("delete", "/run/x/c1", True)


@pytest.mark.parametrize("form", [["-id", "x"], ["--id", "x"], ["-id=x"], ["--id=x"]])
def test_takes_every_form_of_a_value(form: list[str]) -> None:
    assert cli.parse([*form, "start"]).id == "x"


def test_a_value_may_be_empty_or_look_like_a_flag() -> None:
    assert cli.parse(["-publish-binary", "", "start"]).publish_binary == ""
    assert cli.parse(["-id", "-x", "start"]).id == "-x"


@pytest.mark.parametrize(("form", "expected"), [("-debug", True), ("-debug=true", True), ("--debug=0", False)])
def test_a_switch_takes_its_value_only_behind_an_equals_sign(form: str, expected: bool) -> None:
    invocation = cli.parse([form, "start"])

    assert invocation.debug is expected
    assert invocation.action == "start"


def test_the_last_of_two_counts() -> None:
    assert cli.parse(["-debug", "-debug=false", "-id", "a", "-id", "b", "start"]).id == "b"
    assert not cli.parse(["-debug", "-debug=false", "start"]).debug


def test_what_follows_the_action_is_ignored() -> None:
    assert cli.parse(["start", "-nonsense"]).action == "start"
    assert cli.parse(["--", "-x"]).action == "-x"


@pytest.mark.parametrize("switch", ["-v", "-version", "--version"])
def test_the_version_can_be_asked_for_without_an_id(switch: str) -> None:
    assert cli.parse([switch]).version


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-nonsense", "start"], "flag provided but not defined: -nonsense"),
        (["-id"], "flag needs an argument: -id"),
        (["-debug=maybe", "start"], 'invalid boolean value "maybe" for -debug'),
    ],
)
def test_complains_in_gos_words(arguments: list[str], message: str) -> None:
    with pytest.raises(ShimError, match=message):
        cli.parse(arguments)
