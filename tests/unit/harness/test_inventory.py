"""The sources of an inventory, on what can be made without root."""

from __future__ import annotations

import os
import socket
import subprocess

import pytest

from tests.harness import inventory
from tests.harness.inventory import Scope


@pytest.fixture
def sleeper():
    child = subprocess.Popen(["sleep", "1000"])
    yield child
    child.kill()
    child.wait()


def test_our_own_descendants_are_items(sleeper):
    assert any(text.startswith(f"pid {sleeper.pid}:") for text in inventory.process_items(Scope()).values())


def test_expected_processes_are_none(sleeper):
    items = inventory.process_items(Scope(expected=frozenset({sleeper.pid})))

    assert not any(text.startswith(f"pid {sleeper.pid}:") for text in items.values())


def test_every_mount_of_the_root_is_seen():
    assert any(text.startswith("/ (") for text in inventory.mount_items(Scope()).values())


def test_mounts_of_another_bed_are_foreign(tmp_path):
    scope = Scope(bed=tmp_path / "mine")

    assert inventory._is_foreign_mount(tmp_path / "other" / "rootfs", scope)
    assert not inventory._is_foreign_mount(tmp_path / "mine" / "rootfs", scope)


def test_a_file_of_another_bed_is_not_ours_and_one_of_nobody_s_is(tmp_path):
    scope = Scope(bed=tmp_path / "mine")

    assert inventory._is_of_another_bed(tmp_path / "other" / "image", scope)
    assert not inventory._is_of_another_bed(tmp_path / "mine" / "image", scope)
    assert not inventory._is_of_another_bed(tmp_path.parent / "image", scope)


def test_loopback_is_an_interface_and_a_bridge_of_a_bed_is_none():
    names = [key.split()[1] for key in inventory.link_items(Scope(bridge="kt-00000000"))]

    assert "lo" in names


def test_bundles_cri_directories_and_leases_of_the_bed_are_items(tmp_path):
    bundle = tmp_path / "state" / "io.containerd.runtime.v2.task" / "default" / "c1"
    lease = tmp_path / "cni" / "leases" / "kt-1" / "10.64.0.2"
    bundle.mkdir(parents=True)
    lease.parent.mkdir(parents=True)
    lease.touch()
    (lease.parent / "last_reserved_ip.0").touch()

    assert set(inventory.bundle_items(Scope(bed=tmp_path))) == {str(bundle), str(lease)}


def test_sockets_elsewhere_are_not_a_pods(tmp_path):
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(os.fspath(tmp_path / "s"))

        assert str(tmp_path / "s") not in inventory.socket_items(Scope())


def test_an_inventory_has_all_kinds():
    assert set(inventory.take(Scope())) == set(inventory.SOURCES)
