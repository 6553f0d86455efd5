"""The agent's life as a whole, and what the first process does when it fails."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys

import pytest

from guest.agent import boot, daemon, main
from guest.agent.cmdline import Options
from guest.agent.log import Console

pytestmark = pytest.mark.anyio


async def test_a_termination_signal_ends_the_agent_in_order(layout):
    console = Console(os.open(os.devnull, os.O_WRONLY))
    serving = asyncio.create_task(daemon.serve(Options(), console, layout))
    async with asyncio.timeout(10):
        while signal.getsignal(signal.SIGTERM) in (signal.SIG_DFL, signal.default_int_handler):
            await asyncio.sleep(0)

    os.kill(os.getpid(), signal.SIGTERM)

    await asyncio.wait_for(serving, 10)
    gc.unfreeze()


@pytest.fixture
def process_1(monkeypatch):
    """Makes `main` believe that it is the first process; returns what it did to the machine."""
    done = []
    monkeypatch.setitem(sys.modules, "ssl", sys.modules.get("ssl"))
    monkeypatch.setattr(main.os, "getpid", lambda: 1)
    monkeypatch.setattr(boot, "mount_all", lambda: done.append("mounted"))
    monkeypatch.setattr(boot, "power_off", lambda: done.append("powered off"))
    yield done
    gc.enable()


def test_the_machine_ends_when_the_agent_is_done(process_1, monkeypatch):
    monkeypatch.setattr(daemon, "run", lambda is_init: process_1.append(f"ran as init: {is_init}"))

    main.main()

    assert process_1 == ["mounted", "ran as init: True", "powered off"]


def test_the_machine_ends_when_the_agent_fails_and_says_why(process_1, monkeypatch, capfd):
    def fail(is_init):
        raise RuntimeError("the reason")

    monkeypatch.setattr(daemon, "run", fail)

    main.main()

    assert process_1[-1] == "powered off"
    assert "RuntimeError: the reason" in capfd.readouterr().err


def test_another_process_than_the_first_leaves_the_machine_alone(process_1, monkeypatch):
    def fail(is_init):
        raise RuntimeError("the reason")

    monkeypatch.setattr(main.os, "getpid", lambda: 2)
    monkeypatch.setattr(daemon, "run", fail)

    with pytest.raises(RuntimeError):
        main.main()

    assert process_1 == []


@pytest.mark.parametrize(("has_acpi", "commands"), [(True, ["power off", "restart"]), (False, ["restart"])])
def test_the_end_is_by_acpi_or_by_a_restart(monkeypatch, has_acpi, commands):
    names = {boot.kernel.RB_POWER_OFF: "power off", boot.kernel.RB_AUTOBOOT: "restart"}
    done = []
    monkeypatch.setattr(boot.os, "sync", lambda: None)
    monkeypatch.setattr(boot.kernel, "reboot", lambda command: done.append(names[command]))

    boot.power_off(has_acpi)

    assert done == commands
