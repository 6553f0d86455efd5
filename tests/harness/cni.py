"""The private pod network of a bed: a bridge of its own, made by the CNI plugins of the distribution."""

from __future__ import annotations

import hashlib
import json
import os
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.harness.command import run

#: Where Debian's containernetworking-plugins puts the plugins.
PLUGINS = Path("/usr/lib/cni")

_FORWARDING = Path("/proc/sys/net/ipv4/ip_forward")
#: The chains of the host's NAT table that the portmap plugin makes for all pods and never removes.
_PORT_CHAINS = ("CNI-HOSTPORT-DNAT", "CNI-HOSTPORT-MASQ", "CNI-HOSTPORT-SETMARK")


@dataclass(frozen=True)
class PodNetwork:
    """Bridge name and IPv4 subnet of a bed; derived from its directory, so that two beds don't meet."""

    bridge: str
    subnet: str

    @classmethod
    def for_bed(cls, directory: Path) -> PodNetwork:
        """The network of the bed in `directory`: a /24 of 10.64.0.0/10, a name of at most 15 bytes."""
        digest = hashlib.sha256(str(directory).encode()).digest()
        return cls(f"kt-{digest.hex()[:8]}", f"10.{64 + digest[0] % 64}.{digest[1]}.0/24")

    def conflist(self, data_dir: Path) -> dict[str, Any]:
        """The CNI network list: bridge with host-local addresses (leases in `data_dir`) and loopback by containerd."""
        bridge = {
            "type": "bridge",
            "bridge": self.bridge,
            "isGateway": True,
            "ipMasq": False,
            "hairpinMode": True,
            "ipam": {
                "type": "host-local",
                "dataDir": str(data_dir),
                "ranges": [[{"subnet": self.subnet}]],
                "routes": [{"dst": "0.0.0.0/0"}],
            },
        }
        ports = {"type": "portmap", "capabilities": {"portMappings": True}}
        return {"cniVersion": "0.4.0", "name": self.bridge, "plugins": [bridge, ports]}

    def write(self, conf_dir: Path, data_dir: Path) -> None:
        """Write the network list where containerd looks for it."""
        conf_dir.mkdir(parents=True, exist_ok=True)
        (conf_dir / "10-bed.conflist").write_text(json.dumps(self.conflist(data_dir), indent=2))

    def remove(self) -> None:
        """Delete the bridge, which the plugin leaves behind its last pod."""
        if Path("/sys/class/net", self.bridge).exists():
            run("ip", "link", "delete", self.bridge, timeout=10).check()


class ForwardingGuard:
    """Puts the host's `ip_forward` back to what it was: the bridge plugin switches it on for a gateway."""

    def __init__(self) -> None:
        self._before = _FORWARDING.read_text() if os.access(_FORWARDING, os.W_OK) else None

    def restore(self) -> None:
        """Write the old value if it has changed."""
        if self._before is not None and _FORWARDING.read_text() != self._before:
            _FORWARDING.write_text(self._before)


class PortChainsGuard:
    """Removes the portmap plugin's chains, if they were not there before and no pod has a port in them."""

    def __init__(self) -> None:
        self._before = bool(_port_rules())

    def restore(self) -> None:
        """Remove them."""
        rules = _port_rules()
        if self._before or any(rule.startswith(f"-A {_PORT_CHAINS[0]} ") for rule in rules):
            return
        for rule in rules:
            if rule.startswith("-A ") and rule.split()[1] not in _PORT_CHAINS:
                run("iptables", "-w", "-t", "nat", "-D", *shlex.split(rule)[1:], timeout=10).check()
        for option in ("-F", "-X"):
            for chain in _PORT_CHAINS:
                if f"-N {chain}" in rules:
                    run("iptables", "-w", "-t", "nat", option, chain, timeout=10).check()


def _port_rules() -> list[str]:
    """The chains, and all rules that name them."""
    rules = run("iptables", "-w", "-t", "nat", "-S", timeout=10).check().text.splitlines()
    return [rule for rule in rules if any(chain in rule for chain in _PORT_CHAINS)]
