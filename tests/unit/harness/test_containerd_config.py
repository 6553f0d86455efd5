"""The configuration of a bed's containerd."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from tests.harness.containerd_config import ContainerdPaths, render


@pytest.fixture
def private():
    base = Path('/b/"odd" dir')
    return ContainerdPaths(base / "root", base / "state", base / "c.sock", base / "net.d", base / "opt")


def test_everything_of_a_bed_is_private_and_cri_knows_both_runtimes(private):
    text = render(private, pause_image="p:1", kata_config=Path("/k.toml"), cni_bin=Path("/usr/lib/cni"))

    config = tomllib.loads(text)
    cri = config["plugins"]["io.containerd.grpc.v1.cri"]
    assert (config["root"], config["state"]) == (str(private.root), str(private.state))
    assert config["grpc"]["address"] == str(private.socket)
    assert cri["restrict_oom_score_adj"] is True
    assert cri["cni"]["conf_dir"] == str(private.cni_conf)
    assert cri["sandbox_image"] == "p:1"
    assert cri["containerd"]["runtimes"]["runc"]["runtime_type"] == "io.containerd.runc.v2"


def test_kata_gets_its_annotations_configuration_and_no_host_devices(private):
    text = render(private, pause_image="p:1", kata_config=Path("/k.toml"), cni_bin=Path("/cni"))

    kata = tomllib.loads(text)["plugins"]["io.containerd.grpc.v1.cri"]["containerd"]["runtimes"]["kata"]
    assert kata == {
        "runtime_type": "io.containerd.kata.v2",
        "pod_annotations": ["io.katacontainers.*"],
        "container_annotations": ["io.katacontainers.*"],
        "privileged_without_host_devices": True,
        "options": {"ConfigPath": "/k.toml"},
    }


def test_further_handlers_of_kata_differ_in_seccomp_and_in_devices_alone(private):
    text = render(
        private,
        pause_image="p:1",
        kata_config=Path("/k.toml"),
        cni_bin=Path("/cni"),
        seccomp_config=Path("/seccomp.toml"),
    )

    runtimes = tomllib.loads(text)["plugins"]["io.containerd.grpc.v1.cri"]["containerd"]["runtimes"]
    seen = {
        name: (one["runtime_type"], one["privileged_without_host_devices"], one["options"]["ConfigPath"])
        for name, one in runtimes.items()
        if name.startswith("kata-")
    }
    assert seen == {
        "kata-seccomp": ("io.containerd.kata.v2", True, "/seccomp.toml"),
        "kata-host-devices": ("io.containerd.kata.v2", False, "/k.toml"),
    }


@pytest.mark.parametrize(("release", "plugins"), [((2, 0), {"bin_dir": "/cni"}), ((2, 1), {"bin_dirs": ["/cni"]})])
def test_since_2_0_cri_is_several_plugins_and_nri_is_off(private, release, plugins):
    text = render(
        private,
        pause_image="p:1",
        kata_config=Path("/k.toml"),
        cni_bin=Path("/cni"),
        release=release,
        sandboxer="shim",
    )

    config = tomllib.loads(text)
    parts = config["plugins"]
    runtime = parts["io.containerd.cri.v1.runtime"]
    assert config["version"] == 3
    assert parts["io.containerd.nri.v1.nri"] == {"disable": True}
    assert parts["io.containerd.cri.v1.images"]["pinned_images"] == {"sandbox": "p:1"}
    assert runtime["cni"] == {"conf_dir": str(private.cni_conf), **plugins}
    makers = {name: one.get("sandboxer") for name, one in runtime["containerd"]["runtimes"].items()}
    assert makers == {"runc": None, "kata": "shim", "kata-seccomp": "shim", "kata-host-devices": "shim"}
