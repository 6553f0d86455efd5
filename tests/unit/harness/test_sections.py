"""Headings of a test run."""

from __future__ import annotations

import pytest

from tests.harness.sections import Sections, section_of


class Terminal:
    """Collects what the plugin writes."""

    def __init__(self):
        self.lines = []

    def ensure_newline(self):
        pass

    def section(self, title, sep):
        self.lines.append(f"[{title}]")

    def write_line(self, text):
        self.lines.append(text)


@pytest.mark.parametrize(
    ("nodeid", "name"),
    [
        ("tests/unit/a/test_b.py::test_c", "unit"),
        ("tests/integration/test_x.py::T::t[a/b]", "integration"),
        ("x.py::t", "other"),
    ],
)
def test_a_section_is_the_directory_below_tests(nodeid, name):
    assert section_of(nodeid) == name


def test_each_directory_gets_one_heading_and_its_count():
    terminal = Terminal()
    sections = Sections(terminal)

    for nodeid in ("tests/unit/test_a.py::one", "tests/unit/test_a.py::two", "tests/integration/test_b.py::three"):
        sections.pytest_runtest_logstart(nodeid)
        sections.pytest_runtest_logfinish(nodeid)
    sections.pytest_terminal_summary()

    assert terminal.lines[:2] == ["[unit tests]", "[integration tests]"]
    assert terminal.lines[2].startswith("unit: 2 tests in ")
    assert terminal.lines[3].startswith("integration: 1 tests in ")
