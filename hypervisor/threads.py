"""Blocking work beside the event loop, where there may be another thread."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from anyio import to_thread

T = TypeVar("T")

#: CPython's words for what pthread_create(3) refused.
_NO_THREAD = "can't start new thread"


async def aside(work: Callable[[], T], *, abandon_on_cancel: bool = False) -> T:
    """The result of `work`, done by a thread; what it raises is raised. `abandon_on_cancel`: it may go on alone.

    A pod's limit of processes holds for its daemon's threads too. Where it is reached the event loop does the work:
    late is better than not at all.
    """
    try:
        return await to_thread.run_sync(work, abandon_on_cancel=abandon_on_cancel)
    except RuntimeError as error:
        if str(error) != _NO_THREAD:
            raise
    return work()
