"""A pytest plugin: a test that hangs fails after a limit, with the place where it hung, and the run goes on.

`--test-limit SECONDS` applies to each phase of a test (setup, call, teardown). The limit is far above what any test
needs: it is there for the one that would keep a whole run from ending.
"""

from __future__ import annotations

import signal
from collections.abc import Generator
from contextlib import contextmanager
from types import FrameType

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """The limit; 0 means none."""
    parser.addoption("--test-limit", type=float, default=0, help="seconds that each phase of a test may take")


class Expired(KeyboardInterrupt):
    """Raised where the test hangs: event loops, uvloop's too, let a keyboard interrupt through, and no other."""


#: Seconds between further attempts, should the first exception be swallowed.
_REPEAT = 5.0


@contextmanager
def limit(seconds: float, what: str) -> Generator[None, None, None]:
    """Fail the body if it takes longer; 0 means no limit. For the main thread, where signals are handled."""
    if not seconds:
        yield
        return

    def expire(number: int, frame: FrameType | None) -> None:
        raise Expired(f"{frame.f_code.co_filename}:{frame.f_lineno}" if frame else "an unknown place")

    before = signal.signal(signal.SIGALRM, expire)
    signal.setitimer(signal.ITIMER_REAL, seconds, _REPEAT)
    try:
        yield
    except Expired as expired:
        pytest.fail(f"{what} did not end within {seconds:g} s; it was at {expired}")
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, object, object]:
    """Limit the setup."""
    with limit(item.config.getoption("--test-limit"), f"setup of {item.name}"):
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Limit the test itself."""
    with limit(item.config.getoption("--test-limit"), item.name):
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None, object, object]:
    """Limit the teardown."""
    with limit(item.config.getoption("--test-limit"), f"teardown of {item.name}"):
        return (yield)
