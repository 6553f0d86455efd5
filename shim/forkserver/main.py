"""The server's process from its imports to its end, and how each child of it becomes a daemon."""

from __future__ import annotations

import gc
import os
import sys
from importlib import import_module
from pathlib import Path

import config
from hypervisor.process_name import rename
from sandbox.network.kernel import library
from shim import daemon, frugal, kernel
from shim.forkserver import client, heap, inheritance, server
from shim.forkserver.fingerprint import Code
from shim.paths import import_roots

#: The server's own name in `ps`.
NAME = "kata-fork-server"

#: What a daemon imports, the parts that it and its libraries would import only when they are wanted among it.
_MODULES = (
    "anyio._backends._asyncio",
    "anyio._core._signals",
    "anyio.lowlevel",
    "anyio.streams.memory",
    "anyio.streams.stapled",
    "encodings.ascii",
    "hypervisor.fork",
    "json",
    "protos.lean.gen.runtimeoptions_v1",
    "protos.rich",
    "sandbox.network.kernel.attaching",
    "sandbox.network.kernel.scanning",
    "sandbox.network.worker",
    "sandbox.sandbox",
    "shim.app",
    "shim.forkserver.warmup",
    "shim.management.handlers",
    "shim.management.pod",
    "shim.metrics.v1",
    "shim.metrics.v2",
    "shutil",
    "uvloop",
)


def main(first: int, config_path: str) -> None:
    """Be the server, if there is none; in its children, a daemon.

    `first` is the daemon that had to do without, `config_path` the configuration that pods are likely to have.
    """
    listener = server.claim()
    if listener is None:
        return
    os.chdir("/")
    _preload()
    rename([NAME])
    code = Code(import_roots())
    kernel.give_back_memory_from(daemon.KEPT_MEMORY)
    _arrange_memory(config_path)
    forks = server.ForkServer(
        listener,
        serves=inheritance.shares_namespaces,
        is_current=code.is_current,
        prepare=_prepare,
    )
    forks.adopt(first)
    request = forks.run()
    if request is not None:
        _become(request)


def _preload() -> None:
    """Import it all: what is imported after the fork is in each daemon's own memory."""
    frugal.import_messages()
    for name in _MODULES:
        import_module(name)
    # What a daemon forks itself for the pod's network runs with it.
    library.load()


def _arrange_memory(config_path: str) -> None:
    """Have the objects lie so that a daemon writes to few of the pages that all daemons share."""
    # Not with this module: what it imports is for `_preload` to import, and for `frugal`.
    from shim.forkserver.warmup import warm_up

    warm_up()
    _read_configuration(config_path)
    # It holds the names that were looked up last: a daemon, which looks up others, would let go of them page by page.
    sys._clear_type_cache()
    # Later collections and objects stay out of these pages.
    gc.collect()
    heap.fill_gaps()
    gc.freeze()


def _read_configuration(path: str) -> None:
    """Have the daemons find it read, if it is as it was; what is wrong with it is for the daemon to say."""
    try:
        config.load(Path(path) if path else None)
    except config.ConfigError:
        return


def _prepare(request: server.Request) -> None:
    os.setsid()
    inheritance.take_over(request.pid)
    if request.environment.get("SCHED_CORE"):
        kernel.create_sched_core()
    # Before the answer: who looks for the daemon when `start` has returned finds it.
    rename(request.arguments)


def _become(request: server.Request) -> None:
    inheritance.arrange(request.environment, request.listener, request.log, request.bundle)
    # The flags come behind the interpreter, its options and its program.
    daemon.main(request.arguments[2 + len(client.OPTIONS) :])
