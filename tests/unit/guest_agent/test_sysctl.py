"""Network sysctls: only well-formed keys below net, and errors that name the key."""

from __future__ import annotations

import os

import pytest

from guest.agent import sysctl
from guest.agent.errors import InternalError, InvalidArgumentError


@pytest.mark.parametrize(
    ("key", "path"),
    [
        ("net.ipv4.ip_forward", "net/ipv4/ip_forward"),
        ("net/ipv4/conf/eth0.100/rp_filter", "net/ipv4/conf/eth0.100/rp_filter"),
    ],
)
def test_a_key_is_a_path(key, path):
    assert sysctl.key_path(key) == path


@pytest.mark.parametrize(
    "key", ["kernel.x", "net", "net.", "net/../kernel/x", "net..x", "net/a/../b", "net.a b", "net\n.x"]
)
def test_a_malformed_key_is_refused(key):
    with pytest.raises(InvalidArgumentError):
        sysctl.key_path(key)


def test_settings_are_written(tmp_path):
    os.makedirs(tmp_path / "sys/net/core")

    sysctl.apply({"net.core.somaxconn": "7"}, str(tmp_path))

    assert (tmp_path / "sys/net/core/somaxconn").read_text() == "7"


def test_a_setting_that_the_kernel_does_not_have_is_named(tmp_path):
    with pytest.raises(InternalError, match=r"net\.core\.none"):
        sysctl.apply({"net.core.none": "7"}, str(tmp_path))
