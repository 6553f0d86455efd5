"""Paths, networks, runtimes and addresses of a bed."""

from __future__ import annotations

import ipaddress
from pathlib import Path

import pytest

from tests.harness import paths
from tests.harness.bundles import Bundle, spec
from tests.harness.cni import PodNetwork
from tests.harness.guest import identity
from tests.harness.runtimes import KATA, RUNC
from tests.harness.shim_binary import ShimBinary, socket_of


def test_a_socket_path_that_fits_is_taken():
    assert paths.socket_path(Path("/short"), "c.sock") == Path("/short/c.sock")


def test_a_socket_path_that_does_not_fit_says_what_to_do():
    with pytest.raises(ValueError, match=r"too long for a UNIX socket.*shorter path"):
        paths.socket_path(Path("/") / ("x" * 120), "c.sock")


def test_networks_of_two_beds_differ_and_names_fit_an_interface():
    one, two = PodNetwork.for_bed(Path("/a")), PodNetwork.for_bed(Path("/b"))

    assert one != two
    assert len(one.bridge) <= 15
    assert ipaddress.ip_network(one.subnet).is_private


def test_the_network_list_keeps_leases_in_the_bed(tmp_path):
    network = PodNetwork.for_bed(tmp_path)

    bridge, _ = network.conflist(tmp_path / "leases")["plugins"]

    assert bridge["bridge"] == network.bridge
    assert bridge["ipam"]["dataDir"] == str(tmp_path / "leases")


def test_a_shim_is_named_after_its_runtime_type():
    assert (KATA.binary, RUNC.binary) == ("containerd-shim-kata-v2", "containerd-shim-runc-v2")


@pytest.mark.parametrize("text", ["", "unix:///", "tcp://x", "/run/s", "warning\nunix:///run/s"])
def test_only_a_plain_address_is_one(text):
    if text == "unix:///":
        assert socket_of(text) == Path("/")
        return
    with pytest.raises(ValueError, match="not the address of a shim"):
        socket_of(text)


def test_the_address_is_trimmed_as_containerd_does():
    assert socket_of("unix:///run/containerd/s/ab\n") == Path("/run/containerd/s/ab")


def test_a_shim_is_run_with_containerds_arguments():
    shim = ShimBinary(Path("/bin/shim"), Path("/b/c.sock"), "ns")

    words = shim.command("c1", "start")

    assert words[:5] == ["/bin/shim", "-namespace", "ns", "-address", "/b/c.sock"]
    assert words[-3:] == ["-id", "c1", "start"]
    assert shim.environment()["TTRPC_ADDRESS"] == "/b/c.sock.ttrpc"


def test_the_log_of_a_bundle_never_blocks_its_writer(tmp_path):
    bundle = Bundle(tmp_path / "b", spec(["true"]))
    with (tmp_path / "b" / "log").open("w") as writer:
        writer.write("a line\n")

    text = bundle.read_log()
    bundle.close()

    assert text == "a line\n"


def test_identity_takes_the_two_lines_and_nothing_else():
    assert identity("6.1.0\nabc-def\n") == ("6.1.0", "abc-def")
    with pytest.raises(ValueError, match="expected a kernel release"):
        identity("sh: uname: not found")
