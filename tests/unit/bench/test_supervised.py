"""A program with a time limit, and what becomes of it."""

from __future__ import annotations

import sys

import pytest

from bench import supervised
from bench.supervised import last_line

#: Says when it has been interrupted, then goes on for as long as it is told to.
_CLEANS_UP = """
import signal, sys, time
print("ready", flush=True)
try:
    time.sleep(60)
except KeyboardInterrupt:
    print("clean", flush=True)
    sys.exit(3)
"""
_STUBBORN = """
import signal, time
signal.signal(signal.SIGINT, signal.SIG_IGN)
print("ready", flush=True)
time.sleep(60)
"""


def run(script, tmp_path, limit=30.0, grace=(30.0,)):
    return supervised.run([sys.executable, "-ISc", script], tmp_path / "log", limit, grace)


def test_its_status_and_its_last_line_are_told(tmp_path):
    ended = run("import sys; print('why'); print(); sys.exit(4)", tmp_path)

    assert (ended.status, ended.late, ended.last_line) == (4, False, "why")


def test_one_that_takes_too_long_may_clean_up(tmp_path):
    # It may not have come as far as to be ready: then it is interrupted before, which is an end, too.
    ended = run(_CLEANS_UP, tmp_path, limit=3.0)

    assert ended.late
    assert ended.status == 3
    assert ended.last_line == "clean"


def test_one_that_does_not_end_is_killed(tmp_path):
    ended = run(_STUBBORN, tmp_path, limit=3.0, grace=(0.1, 0.1))

    assert (ended.late, ended.status, ended.last_line) == (True, -9, "ready")


@pytest.mark.parametrize(("text", "line"), [("", "no output"), ("a\n b \n\n", "b"), ("x" * 600, "x" * 500)])
def test_the_last_line_is_the_last_that_is_not_empty(text, line):
    assert last_line(text) == line
