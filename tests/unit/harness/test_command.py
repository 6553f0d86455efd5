"""Running programs."""

from __future__ import annotations

import pytest

from tests.harness.command import CommandError, run


def test_a_result_has_status_and_both_streams():
    done = run("sh", "-c", "cat; echo err >&2; exit 3", stdin=b"in")

    assert (done.returncode, done.stdout, done.error_text) == (3, b"in", "err")


def test_check_passes_a_success_on():
    assert run("echo", "hi").check().text == "hi"


def test_check_turns_a_failure_into_one_line_with_its_last_words():
    with pytest.raises(CommandError, match=r"^sh -c .*: exit status 4: two lines$"):
        run("sh", "-c", "printf 'two\\nlines' >&2; exit 4").check()


def test_a_deadline_kills_and_tells_what_was_said():
    with pytest.raises(CommandError, match=r"did not end within 0.2 s: begun"):
        run("sh", "-c", "echo begun >&2; exec sleep 1000", timeout=0.2)


def test_a_program_that_is_missing_is_named():
    with pytest.raises(CommandError, match=r"/no/such/program: can't be started: No such file"):
        run("/no/such/program")
