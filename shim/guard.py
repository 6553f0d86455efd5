"""What a handler's errors become on the wire, and what a handler may know of its caller.

A `SandboxError` carries its code and is answered with it. Anything else is a fault of ours: it is logged with its
traceback, and the caller gets one line with the code Unknown, as from Go's shims.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any

from grpclib.const import Handler, Status
from grpclib.exceptions import GRPCError

from sandbox.errors import SandboxError, one_line

_log = logging.getLogger(__name__)

# The margin: a tenth, in seconds at least and at most, but no more than half of what there is.
_MARGIN_SHARE, _MARGIN_MIN, _MARGIN_MAX = 0.1, 0.5, 2.0

_deadline: ContextVar[Any] = ContextVar("deadline", default=None)


def time_remaining() -> float | None:
    """Seconds until the caller of the current request gives up; None if it never does."""
    deadline = _deadline.get()
    return None if deadline is None else float(deadline.time_remaining())


def time_for_work() -> float | None:
    """Seconds that a request's work may take; None if its caller never gives up.

    A margin is kept back from the caller's deadline, so that all is undone and the cause told before it gives up.
    """
    remaining = time_remaining()
    if remaining is None:
        return None
    margin = max(_MARGIN_MIN, min(_MARGIN_MAX, remaining * _MARGIN_SHARE))
    return max(0.0, remaining - min(margin, remaining / 2))


def guarded(route: str, handler: Handler) -> Handler:
    """The handler with its errors translated; `time_remaining` works inside."""
    return handler._replace(func=_guarded(route.rpartition("/")[2], handler.func))


def _guarded(method: str, call: Callable[[Any], Awaitable[None]]) -> Callable[[Any], Awaitable[None]]:
    async def run(stream: Any) -> None:
        token = _deadline.set(stream.deadline)
        try:
            await call(stream)
        except SandboxError as error:
            _log.debug("%s: %s: %s", method, error.status.name, error)
            raise GRPCError(error.status, str(error)) from error
        except GRPCError:
            raise
        except Exception as error:
            _log.exception("%s failed", method)
            raise GRPCError(Status.UNKNOWN, one_line(f"{method}: {type(error).__name__}: {error}")) from error
        finally:
            _deadline.reset(token)

    return run
