"""The arguments of both flavours of virtiofsd."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from hypervisor.errors import HypervisorError
from hypervisor.virtiofsd_flags import Flavour, VirtiofsdSpec, arguments

SPEC = VirtiofsdSpec(Path("/usr/libexec/virtiofsd"), Path("/run/share"), Path("/run/fs"))
#: What Kata's configuration has by default.
KATA = ("--thread-pool-size=1", "--announce-submounts")


def render(flavour: Flavour, *extra: str, spec: VirtiofsdSpec = SPEC) -> str:
    return " ".join(arguments(replace(spec, extra_args=extra), flavour, 5))


def test_the_rust_one():
    assert render("rust") == (
        "--fd=5 --shared-dir=/run/share --cache=auto --sandbox=namespace --thread-pool-size=0 --announce-submounts"
    )


def test_the_c_one():
    assert render("c") == (
        "--fd=5 -o source=/run/share -o cache=auto -o sandbox=namespace --thread-pool-size=0 -o announce_submounts"
    )


def test_a_verbose_one_with_extended_attributes():
    spec = replace(SPEC, debug=True, xattr=True, announce_submounts=False, cache="never")
    assert render("rust", spec=spec).endswith(
        "--cache=never --sandbox=namespace --thread-pool-size=0 --xattr --log-level=debug"
    )
    assert render("c", spec=spec).endswith(
        "-o cache=none -o sandbox=namespace --thread-pool-size=0 -o xattr -o log_level=debug"
    )


def test_kata_s_own_extra_arguments_are_given_once_and_win():
    assert render("rust", *KATA) == (
        "--fd=5 --shared-dir=/run/share --cache=auto --sandbox=namespace --thread-pool-size=1 --announce-submounts"
    )
    assert "--thread-pool-size=1 -o announce_submounts" in render("c", *KATA)


@pytest.mark.parametrize(
    "extra", [("-o", "cache=always,xattr"), ("--cache=always", "--xattr"), ("--cache", "always", "--xattr")]
)
def test_either_spelling_is_translated(extra: tuple[str, ...]):
    assert "--cache=always" in render("rust", *extra).split()
    assert "--xattr" in render("rust", *extra).split()
    assert "-o cache=always" in render("c", *extra)
    assert "-o xattr" in render("c", *extra)


def test_what_only_one_knows_is_passed_on():
    assert render("rust", "--inode-file-handles=prefer").endswith(" --inode-file-handles=prefer")
    assert render("c", "-o", "timeout=5,no_readdirplus").endswith(" -o timeout=5 -o no_readdirplus")


@pytest.mark.parametrize(
    "extra",
    [
        ("--fd=9",),
        ("--shared-dir", "/"),
        ("-o", "source=/"),
        ("-osource=/",),
        ("-o", "xattr,source=/"),
        ("--socket-path=/x",),
    ],
)
def test_what_is_ours_can_not_be_overridden(extra: tuple[str, ...]):
    with pytest.raises(HypervisorError, match="is set by the runtime"):
        render("c", *extra)


def test_a_cache_mode_that_this_one_lacks_is_refused_with_those_it_has():
    assert "--cache=metadata" in render("rust", "--cache=metadata")
    with pytest.raises(
        HypervisorError, match="'metadata' is not known to this virtiofsd: use one of always, auto, never"
    ):
        render("c", "--cache=metadata")


def test_hostile_paths_are_escaped_or_refused():
    assert "-o source=/a\\,b\\\\c " in render("c", spec=replace(SPEC, shared_dir=Path("/a,b\\c")))
    assert "--shared-dir=/a,b\\c " in render("rust", spec=replace(SPEC, shared_dir=Path("/a,b\\c")))
    for path in ("/a\nb", "relative"):
        with pytest.raises(HypervisorError):
            render("rust", spec=replace(SPEC, shared_dir=Path(path)))
    with pytest.raises(HypervisorError, match="control character"):
        render("rust", "--x\0")
