"""PCI addresses in environment variables: the SR-IOV plugin names the host's, programs need the guest's. Pure.

`PCIDEVICE_<resource>` is a list of addresses with commas; `PCIDEVICE_<resource>_INFO` is JSON that holds the same ones.
"""

from __future__ import annotations

from collections.abc import Mapping

_PREFIX = "PCIDEVICE_"


def translate(environment: list[str], addresses: Mapping[str, str]) -> list[str]:
    """The environment with the guest's addresses; an address that `addresses` doesn't have (host to guest) stays."""
    if not addresses:
        return environment
    return [_translated(entry, addresses) if entry.startswith(_PREFIX) else entry for entry in environment]


def _translated(entry: str, addresses: Mapping[str, str]) -> str:
    name, equals, value = entry.partition("=")
    if name.endswith("_INFO"):
        return name + equals + _replaced(value, addresses)
    return name + equals + ",".join(addresses.get(word.lower(), word) for word in value.split(","))


def _replaced(text: str, addresses: Mapping[str, str]) -> str:
    """Replace all at once: a guest's address may be a host's too."""
    import re

    pattern = "|".join(re.escape(address) for address in addresses)
    return re.sub(pattern, lambda match: addresses[match[0].lower()], text, flags=re.IGNORECASE)
