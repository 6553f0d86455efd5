"""A cache's server as an operator has it, and containers that ask it for their VMs."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sandbox.cache.state import place_for
from sandbox.rundir import ROOT
from tests.harness import paths
from tests.harness.bed import Bed
from tests.harness.command import Result, run
from tests.harness.ctr import Ctr
from tests.harness.waiting import eventually

#: Seconds for the pool to be full, under emulation and beside other tests.
FILL_TIMEOUT = 120.0


@dataclass(frozen=True)
class Cached:
    """One configuration with a cache."""

    ctr: Ctr
    bed: Bed
    configuration: Path
    endpoint: Path
    number: int

    @classmethod
    def make(cls, bed: Bed, directory: Path, name: str, number: int, parameters: str = "") -> Cached:
        """With the bed's configuration, and more kernel parameters."""
        endpoint = Path("/run") / name
        keys = f'vm_cache_number = {number}\nvm_cache_endpoint = "{endpoint}"\n'
        text = bed.configuration.read_text().replace("[factory]\n", f"[factory]\n{keys}", 1)
        configuration = directory / "cache.toml"
        configuration.write_text(re.sub(r'(?m)^(kernel_params = ".*)"', rf'\1 {parameters}"', text))
        return cls(Ctr(bed.socket, bed.runtime, configuration=configuration), bed, configuration, endpoint, number)

    def ctl(self, action: str) -> Result:
        """`kata-ctl cache`."""
        return run(paths.PREFIX / "bin" / "kata-ctl", "cache", action, "--file", self.configuration, timeout=90)

    def wait_full(self) -> None:
        """All VMs wait."""
        eventually(lambda: len(self.pool()) == self.number, "the pool is full", FILL_TIMEOUT)

    @property
    def is_running(self) -> bool:
        """Whether a server answers."""
        return self.ctl("status").returncode == 0

    @property
    def server(self) -> int:
        """The server's pid."""
        found = re.search(r"server: pid (\d+)", self.ctl("status").check().text)
        assert found
        return int(found[1])

    def pool(self) -> dict[int, str]:
        """What `status` tells of each VM that waits, by pid."""
        lines = self.ctl("status").check().text.splitlines()[1:]
        return {int(found[1]): line for line in lines if (found := re.search(r"pid=(\d+)", line))}

    @property
    def place(self) -> Path:
        """The server's directory."""
        return place_for(self.endpoint)

    @contextmanager
    def running(self, name: str, *options: str) -> Iterator[str]:
        """A sleeping container, gone at the end."""
        self.ctr.run_detached(name, "sleep", "100000", options=options)
        try:
            yield name
        finally:
            self.ctr.remove(name)

    def journal(self, name: str) -> dict[str, Any]:
        """The journal of a container's sandbox."""
        (directory,) = ROOT.glob(f"{name}-????????")
        found: dict[str, Any] = json.loads((directory / "state.json").read_text())
        return found

    def kind(self, name: str) -> str:
        """How its sandbox started."""
        return str(self.journal(name)["started"]["start"]["kind"])

    def qemu(self, name: str) -> int:
        """Pid of its QEMU."""
        return int(self.journal(name)["processes"]["qemu"]["pid"])

    def told(self, name: str) -> list[str]:
        """What its daemon has said of the cache in the log."""
        lines = self.bed.containerd.log.read_text(errors="replace").splitlines()
        return [line for line in lines if "does not come from the cache" in line and f"sandbox={name} " in line]
