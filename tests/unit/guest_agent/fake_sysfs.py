"""A sysfs and a /dev of a test's own: what the kernel would show of the devices that are put into it."""

from __future__ import annotations

import os

from guest.agent.layout import Layout


class FakeSysfs:
    """Makes devices appear below a layout's `sys` and `dev`."""

    def __init__(self, layout: Layout) -> None:
        self.sys = layout.sys
        self.dev = layout.dev
        os.makedirs(self.dev, exist_ok=True)
        self.file("bus/pci/rescan", "")

    def file(self, path: str, text: str) -> str:
        """An attribute."""
        full = f"{self.sys}/{path}"
        os.makedirs(os.path.dirname(full), exist_ok=True)
        with open(full, "w") as file:
            file.write(text)
        return full

    def read(self, path: str) -> str:
        """An attribute's text."""
        with open(f"{self.sys}/{path}") as file:
            return file.read()

    def link(self, path: str, target: str) -> None:
        """A link to another place in sysfs."""
        full = f"{self.sys}/{path}"
        os.makedirs(os.path.dirname(full), exist_ok=True)
        os.symlink(f"{self.sys}/{target}", full)

    def disk(self, place: str, name: str, number: str, sectors: int = 8) -> None:
        """A disk below the device at `place`, with its node."""
        directory = f"{place}/block/{name}"
        self.file(f"{directory}/dev", number + "\n")
        self.file(f"{directory}/size", f"{sectors}\n")
        self.link(f"class/block/{name}", directory)
        self.link(f"dev/block/{number}", directory)
        with open(f"{self.dev}/{name}", "wb"):
            pass

    def bridge(self, address: str, bus: str) -> str:
        """A PCI bridge on the root bus; returns the place of its bus' devices."""
        place = f"devices/pci0000:00/0000:00:{address}"
        os.makedirs(f"{self.sys}/{place}/pci_bus/0000:{bus}")
        return f"{place}/0000:{bus}"
