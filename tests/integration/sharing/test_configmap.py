"""ConfigMaps and Secrets: their updates reach the running container within 3 s, however many and large they are."""

from __future__ import annotations

import selectors
import subprocess
import time
from pathlib import Path

import pytest

from tests.fakes.configmap import ConfigMap
from tests.integration.sharing.conftest import Configure, mount

pytestmark = pytest.mark.integration

#: What is promised, in seconds.
PROMISE = 3.0
BOOT = 60.0

WATCH = "while :; do cat /conf/* | md5sum; sleep 0.2; done"

WAYS = {
    "virtio-fs": "",
    "virtio-fs, nothing cached": "virtio_fs_cache = 'never'",
    "none": "shared_fs = 'none'",
}


class Watcher:
    """Reads what a container prints, line by line."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout
        self._process = process
        self._stdout = process.stdout
        self._text = b""

    def wait_for(self, word: str, timeout: float) -> float:
        """Seconds until a line that came from now on contains `word`."""
        began = time.monotonic()
        with selectors.DefaultSelector() as selector:
            selector.register(self._stdout, selectors.EVENT_READ)
            while word.encode() not in self._text:
                left = began + timeout - time.monotonic()
                assert left > 0, f"{word} not within {timeout} s: {self._text[-300:]!r}"
                if selector.select(left):
                    chunk = self._stdout.read1(65536)
                    assert chunk, self._process.stderr and self._process.stderr.read()
                    self._text = (self._text + chunk)[-4096:]
        self._text = b""
        return time.monotonic() - began


@pytest.mark.parametrize("way", WAYS)
def test_an_update_reaches_the_container_in_time(configured: Configure, tmp_path: Path, way: str):
    ctr = configured(f"[hypervisor.qemu]\n{WAYS[way]}\n")
    volume = ConfigMap(tmp_path / "conf", {f"key{number}": b"1" * 70_000 for number in range(40)})
    options = ("--rm", *mount(volume.directory, "/conf", "rbind:ro"))
    with ctr.background(*ctr.run_arguments("c1", "sh", "-c", WATCH, options=options)) as process:
        watcher = Watcher(process)
        watcher.wait_for(volume.digest, BOOT)
        took = []
        for text in (b"2", b"3"):
            volume.update({f"key{number}": text * 80_000 for number in range(42)})
            took.append(watcher.wait_for(volume.digest, PROMISE))
        ctr.kill("c1")
        process.wait(30)
    print(f"{way}: {', '.join(f'{seconds:.2f} s' for seconds in took)}")
