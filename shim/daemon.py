"""The process that stays: one per pod, from `start` until the pod's end.

What a process must settle before it can serve is here: its name, its log, its mount namespace, its event loop, and
its end.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import socket
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, NoReturn

from shim import cli, frugal, kernel, log, settings
from shim.sockets import LISTENER_FD
from shim.version import PROGRAM, VERSION

#: Seconds for closing the loop.
END_TIMEOUT = 10.0
#: Blocks of memory of this size or more are not kept when they are freed: output in bulk comes by the mebibyte.
KEPT_MEMORY = 128 * 1024

_LOG_FD = 2

_log = logging.getLogger(__name__)


def main(arguments: Sequence[str]) -> NoReturn:
    """Be the daemon of a real pod: in a mount namespace of its own, and with a VM."""
    run(arguments, _serve_sandbox, isolate)


def run(
    arguments: Sequence[str],
    serve: Callable[[settings.Settings, socket.socket], Coroutine[Any, Any, None]],
    prepare: Callable[[], None],
) -> NoReturn:
    """Be a daemon that prepares its process and then serves; ends the process, with status 1 after an error."""
    invocation = cli.parse(arguments)
    handler = log.configure(_LOG_FD, invocation.debug, {"namespace": invocation.namespace, "sandbox": invocation.id})
    status = 1
    try:
        _name_process()
        kernel.give_back_memory_from(KEPT_MEMORY)
        # Until the loop handles it, a request for a stack dump must not end the process.
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        told = settings.read(invocation, os.environ)
        prepare()
        _run_loop(serve(told, socket.socket(fileno=LISTENER_FD)), handler)
        status = 0
    except BaseException:  # noqa: BLE001 - whatever it is, it belongs in the log
        _log.exception("%s %s failed", PROGRAM, VERSION)
    handler.flush()
    os._exit(status)


def isolate() -> None:
    """Keep the pod's mounts to this process and its children, and its orphans below it. Raises `OSError`."""
    kernel.enter_private_mounts()
    kernel.become_subreaper()


async def _serve_sandbox(told: settings.Settings, listener: socket.socket) -> None:
    frugal.import_messages()
    from shim.app import serve
    from shim.management.pod import managed_sandbox

    # All that was imported stays: keeping it out of the collector's sight keeps its pages shared and collections short.
    # A forked daemon was given it like that.
    if not gc.get_freeze_count():
        gc.collect()
        gc.freeze()
    gc.enable()
    await serve(told, listener, managed_sandbox)


def _run_loop(work: Coroutine[Any, Any, None], handler: log.FifoHandler) -> None:
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        handler.attach(runner.get_loop())
        try:
            runner.run(work)
        finally:
            handler.attach(None)
            # Closing the loop waits for worker threads, and one of them may hang.
            kernel.end_within(END_TIMEOUT)


def _name_process() -> None:
    """`ps` and `top` show the shim, not its interpreter."""
    try:
        with open("/proc/self/comm", "w", encoding="ascii") as file:
            file.write(PROGRAM)
    except OSError:
        _log.debug("the process keeps its name")
