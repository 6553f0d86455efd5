"""Starting containers and telling how their VMs came to be: by the log, QEMU's arguments and the guest itself."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hypervisor.template.store import KEY_LENGTH, MANIFEST
from tests.harness import processes
from tests.harness.bed import Bed
from tests.harness.ctr import Ctr
from tests.harness.phases import Start, starts
from tests.harness.waiting import eventually

#: Seconds for a template to be built, under emulation and beside other tests.
BUILD_TIMEOUT = 90.0


@dataclass(frozen=True)
class Clones:
    """What a test needs: a ctr whose runtime makes templates, its bed, and where the templates are."""

    ctr: Ctr
    bed: Bed
    store: Path
    configuration: Path

    def configured(self, directory: Path, key: str) -> Clones:
        """The same with one more line for the hypervisor, and templates beside these."""
        store = self.store / "others"
        store.mkdir(mode=0o700, exist_ok=True)
        text = self.configuration.read_text().replace(str(self.store), str(store))
        name = key.partition(" ")[0]
        text = re.sub(rf"(?m)^{name} =.*\n", "", text).replace("[hypervisor.qemu]\n", f"[hypervisor.qemu]\n{key}\n", 1)
        path = directory / "configuration.toml"
        path.write_text(text)
        return Clones(Ctr(self.bed.socket, self.bed.runtime, configuration=path), self.bed, store, path)

    @contextmanager
    def running(self, name: str, *options: str) -> Iterator[str]:
        """A sleeping container, gone at the end."""
        self.ctr.run_detached(name, "sleep", "100000", options=options)
        try:
            yield name
        finally:
            self.ctr.remove(name)

    def start_of(self, name: str) -> Start:
        """How the sandbox of a container started, by the log."""
        found = [one for one in starts(self.lines()) if one.message == "sandbox started" and one.id == name]
        assert len(found) == 1, f"{len(found)} starts of {name} in {self.bed.containerd.log}"
        return found[0]

    def lines(self) -> list[str]:
        """containerd's log, which has the daemons' lines."""
        return self.bed.containerd.log.read_text(errors="replace").splitlines()

    def templates(self) -> list[Path]:
        """The complete ones."""
        return sorted(path for path in self.store.iterdir() if len(path.name) == KEY_LENGTH)

    def ensure_template(self) -> Path:
        """A template is there, built beside a pod if need be."""
        if not self.templates():
            with self.running("tpl-first"):
                eventually(self.templates, "a template is built", BUILD_TIMEOUT)
        return self.templates()[0]


def manifest(template: Path) -> dict[str, Any]:
    """What a template says of itself."""
    about: dict[str, Any] = json.loads((template / MANIFEST).read_text())
    return about


def qemu_of(name: str) -> tuple[int, list[str]]:
    """Pid and arguments of the QEMU of a container's sandbox."""
    found = [one for one in processes.find(rf"guest={name},") if one.name.startswith("qemu-system")]
    assert len(found) == 1, f"{len(found)} QEMU processes of {name}"
    words = Path(f"/proc/{found[0].pid}/cmdline").read_bytes().rstrip(b"\0").split(b"\0")
    return found[0].pid, [word.decode() for word in words]


def host_age(pid: int) -> float:
    """Seconds since the start of a process, by the host."""
    ticks = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    return float(Path("/proc/uptime").read_text().split()[0]) - ticks / 100
