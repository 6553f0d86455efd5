"""Fixtures of the Sandbox API's tests: a shim without containerd, and a pod's network namespace."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.command import run
from tests.harness.fixtures import bed, bed_keeper, nothing_left
from tests.integration.faults.conftest import direct, swept_direct
from tests.integration.faults.direct import Direct
from tests.integration.sandbox_api.containerd2 import Containerd2
from tests.integration.system import specs

__all__ = ["bed", "bed_keeper", "direct", "nothing_left", "swept_direct"]

_NETNS = "kata-sandbox-api"


@pytest.fixture(scope="session")
def rootfs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A busybox root directory with the files that a pod brings: it is bound read-only, so nobody can make them."""
    root = tmp_path_factory.mktemp("sandbox-api") / "rootfs"
    specs.unpack_root(root)
    for name in ("resolv.conf", "hostname", "hosts"):
        (root / "etc" / name).touch()
    return root


@pytest.fixture
def netns(nothing_left: None) -> Iterator[Path]:
    """The network namespace of a pod, as CNI has set it up: a veth with an address, and its peer."""
    run("ip", "netns", "add", _NETNS).check()
    try:
        ip = ("ip", "-n", _NETNS)
        run(*ip, "link", "add", "eth0", "mtu", "1400", "type", "veth", "peer", "name", "eth1").check()
        run(*ip, "address", "add", "10.99.0.2/24", "dev", "eth0").check()
        for device in ("lo", "eth0", "eth1"):
            run(*ip, "link", "set", device, "up").check()
        yield Path("/run/netns") / _NETNS
    finally:
        run("ip", "netns", "delete", _NETNS).check()


@pytest.fixture
def containerd(direct: Direct, netns: Path) -> Containerd2:
    """containerd 2.x; its sandboxes must be gone at the test's end."""
    return Containerd2(direct, netns)
