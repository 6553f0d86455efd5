"""A Linux guest finds the machine as it was described, and sees what the host mounts after its start."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.integration

PROJECT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the guest showed, run once in a mount namespace of its own."""
    virtiofsd = next(p for p in ("/usr/lib/qemu/virtiofsd", "/usr/libexec/virtiofsd") if Path(p).exists())
    scratch = tmp_path_factory.mktemp("guest")
    command = ["unshare", "--mount", "--propagation", "slave", "--", sys.executable, "-m"]
    result = subprocess.run(
        [*command, "tests.integration.hypervisor.guest_scenario", str(scratch), virtiofsd],
        cwd=PROJECT,
        env=os.environ | {"PYTHONPATH": str(PROJECT)},
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    return json.loads(result.stdout)


def test_the_agent_s_port_has_its_name_and_carries_bytes_both_ways(seen: dict[str, Any]):
    assert (seen["kernel"], seen["port"]) == ("Linux", "kata.agent.0")


def test_the_image_is_a_read_only_disk_with_its_serial(seen: dict[str, Any]):
    assert (seen["image"], seen["serial"], seen["read_only"]) == ("an image", "kata-image", "1")


def test_there_is_entropy(seen: dict[str, Any]):
    assert seen["rng"].startswith("virtio_rng")


def test_no_memory_goes_to_bounce_buffers(seen: dict[str, Any]):
    assert seen["bounce_buffers"] == "0"


def test_the_kernel_has_its_parameters(seen: dict[str, Any]):
    assert "panic=-1" in seen["params"]
    assert "nr_cpus=2" in seen["params"]


def test_a_mount_made_after_the_start_is_seen_at_once(seen: dict[str, Any]):
    assert seen["after"] == "seen"


def test_a_directory_already_looked_at_shows_its_new_mounts_when_its_cache_entry_is_old(seen: dict[str, Any]):
    assert (seen["gone"], seen["again"]) == ("0", "seen")


def test_everything_ends_and_nothing_is_left(seen: dict[str, Any]):
    assert seen["end"] == "QEMU was told to quit"
    assert seen["virtiofsd"].startswith("virtiofsd exited with status ")
    assert seen["left"] == []


def test_a_quiet_kernel_says_nothing_on_the_console(seen: dict[str, Any]):
    assert seen["console"] == ""
