"""Contract: blocking work is done beside the event loop, and by it where there may be no other thread."""

from __future__ import annotations

import threading

import pytest

from hypervisor.threads import aside

pytestmark = pytest.mark.anyio


async def test_a_thread_does_it():
    assert await aside(threading.current_thread) is not threading.main_thread()


async def test_without_another_thread_the_loop_does_it(monkeypatch: pytest.MonkeyPatch):
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)

    assert await aside(threading.current_thread) is threading.main_thread()


async def test_what_the_work_raises_is_raised_and_it_is_done_once():
    done = []

    def fail() -> None:
        done.append(1)
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        await aside(fail)

    assert done == [1]
