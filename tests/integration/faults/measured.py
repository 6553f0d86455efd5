"""Durations that the tests measured, shown at the end of the run: assertions have margins, the figures have none."""

from __future__ import annotations

import pytest


class Measured:
    """Life: made, `note` any number of times, `show`."""

    def __init__(self) -> None:
        self._lines: list[str] = []

    def note(self, what: str, seconds: float) -> None:
        """Remember how long `what` took."""
        self._lines.append(f"{what}: {seconds:.3f} s")

    def show(self, config: pytest.Config) -> None:
        """Write all of it to the terminal."""
        terminal = config.pluginmanager.get_plugin("terminalreporter")
        if terminal is not None and self._lines:
            terminal.ensure_newline()
            for line in self._lines:
                terminal.write_line(f"measured: {line}")
