"""Durations that the tests measured, shown at the end of the run: assertions have margins, the figures have none."""

from __future__ import annotations

import pytest


class Measured:
    """A plugin of the run. Life: made, `note` any number of times, shown with pytest's summary."""

    def __init__(self) -> None:
        self._lines: list[str] = []

    def note(self, what: str, seconds: float) -> None:
        """Remember how long `what` took."""
        self._lines.append(f"{what}: {seconds:.3f} s")

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Show all of it."""
        for line in self._lines:
            terminalreporter.write_line(f"measured: {line}")
