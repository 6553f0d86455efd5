"""Fixtures of the agent's tests: a layout in a temporary directory, a reaper, a fake crun, an agent around them."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import pytest

from guest.agent import kernel
from guest.agent.agent import Agent
from guest.agent.cmdline import Options
from guest.agent.devices.finder import DeviceFinder
from guest.agent.errors import NotFoundError
from guest.agent.layout import Layout
from guest.agent.log import Console
from guest.agent.namespaces import SharedNamespaces
from guest.agent.reaper import Reaper
from guest.agent.storage.context import DriverContext
from guest.agent.work import Work
from protos.lean.gen.grpc import Linux, Process, Root, Spec, User
from tests.unit.guest_agent.fake_sysfs import FakeSysfs

FAKE_CRUN = Path(__file__).with_name("fake_crun.py")


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    """Directories of a test's own; the root file system of container `c1` is there."""
    short = tmp_path / "a"
    result = Layout(
        shared_run=str(short / "run"),
        state=str(short / "state"),
        cgroup=str(short / "cgroup"),
        proc=str(short / "proc"),
        sys=str(short / "sys"),
        dev=str(short / "dev"),
    )
    os.makedirs(f"{result.shared_containers}/c1/rootfs")
    os.makedirs(result.state)
    return result


@pytest.fixture
async def reaper():
    """A reaper that runs; orphans of the test's programs become its children, as in the guest."""
    kernel.set_subreaper(True)
    result = Reaper()
    result.start()
    yield result
    result.stop()
    kernel.set_subreaper(False)


@pytest.fixture
def sysfs(layout: Layout) -> FakeSysfs:
    """The layout's sysfs and /dev, with no device in it."""
    return FakeSysfs(layout)


@pytest.fixture
async def context(layout: Layout):
    """What storage drivers have at hand; no module can be loaded, and nothing is waited for long."""

    async def load(name: str) -> None:
        raise NotFoundError(f"no module {name}")

    async with asyncio.TaskGroup() as group:
        work = Work(group)
        yield DriverContext(layout, DeviceFinder(layout, load, 0.01, root="/proc"), Reaper(), work)
        work.end_background()


@pytest.fixture
def crun(tmp_path: Path) -> str:
    """The path of a program that acts as crun, with plain processes for containers."""
    script = tmp_path / "crun"
    script.write_text(f'#!/bin/sh\nexec {sys.executable} -I -S {FAKE_CRUN} "$@"\n')
    script.chmod(0o755)
    return str(script)


@pytest.fixture
async def agent(layout: Layout, crun: str, monkeypatch: pytest.MonkeyPatch):
    """An agent whose containers are plain processes and whose namespaces are files."""
    monkeypatch.setattr(SharedNamespaces, "create", lambda self, hostname: os.makedirs(self._directory, exist_ok=True))
    monkeypatch.setattr(SharedNamespaces, "remove", lambda self: None)
    monkeypatch.setattr("guest.agent.sandbox._set_guest_hostname", lambda name: None)
    monkeypatch.setattr("guest.agent.sandbox.RESOLV_CONF", "/nonexistent/resolv.conf")
    monkeypatch.setattr("guest.agent.sandbox.MACHINE_ID", "/nonexistent/machine-id")
    kernel.set_subreaper(True)
    async with asyncio.TaskGroup() as group:
        result = Agent(group, layout, Options(), Console(os.open(os.devnull, os.O_WRONLY)), crun)
        result.reaper.start()
        yield result
        await result.sandbox.destroy()
        result.close()
    kernel.set_subreaper(False)


@pytest.fixture
def make_spec(layout: Layout):
    """Makes the spec of a container that runs a program."""

    def make(*args: str, terminal: bool = False) -> Spec:
        process = Process(args=list(args), env=["PATH=/usr/bin:/bin"], cwd="/", user=User(), terminal=terminal)
        return Spec(process=process, root=Root(path=f"{layout.shared_containers}/c1/rootfs"), linux=Linux())

    return make
