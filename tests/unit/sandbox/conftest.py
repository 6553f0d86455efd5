"""A pod on fakes: the real `Sandbox` and agent client, a fake agent behind a real socket, a fake VM, no mounts."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

import config
from sandbox import mounts, rundir
from sandbox.interface import SandboxIdentity
from sandbox.machine import Machine
from sandbox.sandbox import Sandbox
from tests.fakes.agent import FakeAgent
from tests.fakes.vm import FakeVm
from tests.fakes.world import World


@pytest.fixture
def no_mounts(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """Mounts are recorded, not made: (source, target)."""
    made: list[tuple[str, str]] = []
    monkeypatch.setattr(mounts, "bind", lambda source, target, **_: made.append((str(source), str(target))))
    monkeypatch.setattr(mounts, "mount", lambda source, target, *_: made.append((source, str(target))))
    monkeypatch.setattr(mounts, "unmount", lambda target: None)
    return made


@pytest.fixture
def vm_settings() -> str:
    """Further keys of [hypervisor.qemu]; a module of tests may have its own."""
    return ""


@pytest.fixture
async def world(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_mounts: list[tuple[str, str]], vm_settings: str
) -> AsyncIterator[World]:
    monkeypatch.setattr(rundir, "ROOT", tmp_path / "run")
    settings_file = tmp_path / "configuration.toml"
    settings_file.write_text(f"[hypervisor.qemu]\naccelerator = 'tcg'\n{vm_settings}\n[agent.kata]\ndial_timeout = 3\n")
    settings = config.load(settings_file)
    async with FakeAgent(tmp_path / "agent") as agent:
        vm = FakeVm(agent.url)
        made = World(tmp_path, agent, vm)
        made.sandbox = Sandbox(
            SandboxIdentity("c1", "default", "/run/containerd.sock", tmp_path / "s.sock"),
            open_stdio=made.open_stdio,
            publish=made.events.append,
            load_config=lambda _: settings,
            make_machine=lambda plan, directory: Machine(plan, vm, made.share(plan)),
            find_cgroups=made.cgroups,
        )
        async with made.sandbox:
            yield made
