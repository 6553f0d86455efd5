"""SIGTERM to an init that can't hear it becomes SIGKILL; everything else is sent as it is."""

from __future__ import annotations

import pytest

from guest.agent import signals
from guest.agent.errors import InvalidArgumentError


def status(caught=0, ignored=0, blocked=0, pids="12\t1"):
    return f"Name:\tx\nNSpid:\t{pids}\nSigBlk:\t{blocked:016x}\nSigIgn:\t{ignored:016x}\nSigCgt:\t{caught:016x}\n"


SIGTERM_BIT = 1 << 14


def test_an_init_without_a_handler_is_killed():
    assert signals.effective(15, status()) == 9


@pytest.mark.parametrize("how", ["caught", "ignored", "blocked"])
def test_an_init_that_deals_with_it_gets_the_signal(how):
    assert signals.effective(15, status(**{how: SIGTERM_BIT})) == 15


def test_a_process_that_is_no_namespaces_init_gets_the_signal():
    assert signals.effective(15, status(pids="12\t7")) == 15


def test_other_signals_are_not_changed():
    assert signals.effective(1, status()) == 1


def test_a_process_that_is_gone_gets_what_was_asked():
    assert signals.effective(15, "") == 15


@pytest.mark.parametrize("number", [-1, 0, 65])
def test_what_is_no_signal_is_refused(number):
    with pytest.raises(InvalidArgumentError):
        signals.checked(number)
