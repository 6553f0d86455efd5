"""`[agent.kata]`: the agent in the guest, and how long to wait for it."""

from __future__ import annotations

from dataclasses import dataclass

from config.keys import key
from config.rules import Flag, Integer, ListOf, Text


@dataclass(frozen=True, kw_only=True)
class AgentConfig:
    """Keys of `[agent.kata]`."""

    enable_debug: bool = key(
        False, Flag(), "Let the agent log at debug level (`agent.log=debug` on the kernel's command line)."
    )
    debug_console_enabled: bool = key(
        False,
        Flag(),
        "Have a stock Kata guest offer a root shell on the agent's debug console port (`agent.debug_console` on the "
        "kernel's command line). Whoever reaches that port owns the guest. This runtime's own guest has no such port.",
    )
    kernel_modules: tuple[str, ...] = key(
        (),
        ListOf(Text("a module's name and its parameters", r"[A-Za-z0-9_-]+( .*)?")),
        "Kernel modules the agent loads in the guest before the first container: the first word of each is "
        "the name, the rest are its parameters.",
    )
    dial_timeout: int = key(
        45,
        Integer(1, 3600, "s"),
        "How long the agent may take to answer after the VM was started, in seconds.",
    )
