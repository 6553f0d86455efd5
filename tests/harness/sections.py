"""A pytest plugin: one heading for each top-level test directory, and at the end how long each took."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import pytest


@dataclass
class Section:
    """What was run of one directory; `seconds` is wall-clock time."""

    tests: int = 0
    seconds: float = 0.0


# Identity, not fields, makes it the plugin that it is: pluggy keeps plugins in sets.
@dataclass(eq=False)
class Sections:
    """Watches the tests go by."""

    terminal: pytest.TerminalReporter
    sections: dict[str, Section] = field(default_factory=dict)
    current: str = ""
    began: float = 0.0

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """A test begins: perhaps the first one of another directory."""
        name = section_of(nodeid)
        if name == self.current:
            return
        self._close()
        self.current, self.began = name, time.monotonic()
        self.terminal.ensure_newline()
        self.terminal.section(f"{name} tests", sep="-")

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        """A test has ended."""
        self.sections.setdefault(section_of(nodeid), Section()).tests += 1

    def _close(self) -> None:
        if self.current:
            self.sections.setdefault(self.current, Section()).seconds += time.monotonic() - self.began
            self.current = ""

    def pytest_terminal_summary(self) -> None:
        """The table of directories; pytest's own closing line comes after it."""
        self._close()
        for name, section in self.sections.items():
            self.terminal.write_line(f"{name}: {section.tests} tests in {section.seconds:.1f} s")


def section_of(nodeid: str) -> str:
    """The directory below `tests` that a test is in."""
    parts = nodeid.split("::")[0].split("/")
    return parts[1] if len(parts) > 2 else "other"


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    """Register where there is a terminal to write to."""
    terminal = config.pluginmanager.get_plugin("terminalreporter")
    if terminal is not None:
        config.pluginmanager.register(Sections(terminal), "sections")
