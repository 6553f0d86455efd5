"""A host without tun devices says what to do, and nothing stays open."""

from __future__ import annotations

import os

import pytest

from sandbox.network.kernel import taps


def test_a_missing_tun_device_is_named_with_the_way_out(monkeypatch, tmp_path):
    monkeypatch.setattr(taps, "_TUN", str(tmp_path / "tun"))
    before = os.listdir("/proc/self/fd")

    with pytest.raises(OSError, match=r"No such file or directory \(load the module tun\)"):
        taps.open_tap("tap0_kata", 2)

    assert os.listdir("/proc/self/fd") == before


def test_a_host_without_vhost_net_goes_without(monkeypatch, tmp_path):
    monkeypatch.setattr(taps, "_VHOST", str(tmp_path / "vhost-net"))

    assert taps.open_vhost(2) == []
