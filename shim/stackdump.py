"""Where every task and thread of the daemon stands, for a daemon that seems to hang (SIGUSR1, as in Go's shims)."""

from __future__ import annotations

import asyncio
import sys
import threading
import traceback
from types import FrameType


def render() -> list[str]:
    """One text per task of the running loop and per thread; several lines each."""
    tasks = [_task(task) for task in sorted(asyncio.all_tasks(), key=lambda task: task.get_name())]
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    frames = sys._current_frames()
    return tasks + [_thread(names.get(ident, str(ident)), frame) for ident, frame in frames.items()]


def _task(task: asyncio.Task[object]) -> str:
    stack: list[str] = []
    awaited: object = task.get_coro()
    while awaited is not None:
        frame = getattr(awaited, "cr_frame", None) or getattr(awaited, "gi_frame", None)
        if frame is None:
            break
        stack.append(f"{frame.f_code.co_qualname} ({frame.f_code.co_filename}:{frame.f_lineno})")
        awaited = getattr(awaited, "cr_await", None) or getattr(awaited, "gi_yieldfrom", None)
    return "\n  ".join([f"task {task.get_name()}", *stack])


def _thread(name: str, frame: FrameType) -> str:
    return f"thread {name}\n" + "".join(traceback.format_stack(frame)).rstrip()
