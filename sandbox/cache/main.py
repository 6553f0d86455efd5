"""The program behind `kata-ctl cache`: the server, and what is asked of one that runs.

    start [--foreground] [--file F]     status|drain|stop [--file F]

It is a process of its own, for the server loads what neither `kata-ctl` nor a pod's daemon should have to.
"""

from __future__ import annotations

import argparse
import logging
import os
import resource
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import NoReturn

import anyio
from grpclib.client import Channel
from grpclib.exceptions import GRPCError, StreamTerminatedError

import config
from config import ConfigError
from hypervisor.errors import HypervisorError
from protos.gen.cache import CacheServiceStub, GrpcStatus
from sandbox.cache.state import LOG, State, StateError, journals, place_for
from sandbox.errors import SandboxError

#: Seconds for an answer, and for a server to be gone with its VMs.
ANSWER_TIMEOUT = 5.0
END_TIMEOUT = 30.0
_POLL = 0.05


class CommandError(Exception):
    """What was asked for can't be done; one line."""


def main(arguments: Sequence[str]) -> NoReturn:
    """Do it, and end the process: status 1 after one line about what is wrong."""
    parser = argparse.ArgumentParser(prog="kata-ctl cache")
    parser.add_argument("action", choices=("start", "status", "drain", "stop"))
    parser.add_argument("--foreground", action="store_true")
    parser.add_argument("--file", type=Path)
    options = parser.parse_args(arguments)
    file = options.file and options.file.absolute()
    try:
        if options.action != "start":
            print(_command(options.action, file))
        elif options.foreground:
            _serve(file, lambda: None)
        else:
            print(_start(file))
    except (CommandError, ConfigError, HypervisorError, SandboxError, StateError, OSError) as error:
        sys.exit(f"kata-ctl: cache: {error}")
    except GRPCError as error:
        sys.exit(f"kata-ctl: cache: {error.status.name}: {error.message}")
    sys.exit(0)


def _serve(file: Path | None, ready: Callable[[], None]) -> None:
    """Be the server until it ends; the log goes to standard error."""
    from sandbox.cache.server import CacheUnusableError, plan_for, serve

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s%(more)s")
    logging.getLogger().handlers[0].addFilter(_with_fields)
    try:
        plan, cache = plan_for(file, Path("/"))
    except CacheUnusableError as error:
        raise CommandError(str(error)) from error
    state = State.open(place_for(cache.endpoint))
    try:
        anyio.run(serve, plan, cache, state, ready)
    finally:
        state.close()


def _with_fields(record: logging.LogRecord) -> bool:
    fields = getattr(record, "fields", {})
    record.more = "".join(f" {name}={value}" for name, value in fields.items())
    return True


def _start(file: Path | None) -> str:
    """Leave a server behind; returns when clients can connect."""
    endpoint = config.load(file).factory.vm_cache_endpoint
    place = place_for(endpoint)
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    read_end, write_end = os.pipe()
    with (place / LOG).open("ab") as log:
        pid = os.fork()
        if pid == 0:
            os.close(read_end)
            _be_server(file, write_end, log.fileno())
    os.close(write_end)
    with open(read_end, "rb") as answer:
        words = answer.read().decode()
    if words != "ready":
        os.waitpid(pid, 0)
        _remove_empty(place)
        raise CommandError(words or f"the server has ended: see {place / LOG}")
    return f"the cache serves {endpoint}: pid {pid}, log {place / LOG}"


def _remove_empty(place: Path) -> None:
    """What a server that never was has left, unless it has said something."""
    log = place / LOG
    if not log.stat().st_size and len(list(place.iterdir())) == 1:
        log.unlink()
        place.rmdir()


def _be_server(file: Path | None, answer: int, log: int) -> NoReturn:
    """In the child: a session of its own, nothing of the terminal's, and word to the parent."""
    os.setsid()
    null = os.open(os.devnull, os.O_RDWR)
    for source, target in ((null, 0), (log, 1), (log, 2)):
        os.dup2(source, target)
    os.closerange(3, answer)
    os.closerange(answer + 1, resource.getrlimit(resource.RLIMIT_NOFILE)[0])

    def tell(words: str) -> None:
        nonlocal answer
        if answer >= 0:
            os.write(answer, words.encode())
            os.close(answer)
            answer = -1

    status = 1
    try:
        os.set_inheritable(answer, False)
        _serve(file, lambda: tell("ready"))
        status = 0
    except Exception as error:  # noqa: BLE001 - the parent shows it
        tell(str(error))
    finally:
        os._exit(status)


def _command(action: str, file: Path | None) -> str:
    endpoint = config.load(file).factory.vm_cache_endpoint
    commands: dict[str, Callable[[Path], Awaitable[str]]] = {"status": _status, "drain": _drain, "stop": _stop}
    return anyio.run(commands[action], endpoint)


async def _status(endpoint: Path) -> str:
    status = await _ask(endpoint)
    known = {about.get("pid"): about for about in journals(place_for(endpoint))}
    lines = [f"server: pid {status.pid}, {endpoint}, {len(status.vmstatus)} VMs wait"]
    for vm in status.vmstatus:
        about = known.get(vm.pid, {})
        age = max(0.0, time.time() - float(about.get("created", time.time())))
        lines.append(
            f"{about.get('id', '-'):<8} pid={vm.pid} cpu={vm.cpu} memory={vm.memory}MiB age={age:.0f}s "
            f"origin={about.get('origin', '-')}"
        )
    return "\n".join(lines)


async def _drain(endpoint: Path) -> str:
    """SIGUSR1 to the server, then wait until nothing waits there any more."""
    status = await _ask(endpoint)
    os.kill(status.pid, signal.SIGUSR1)
    with anyio.move_on_after(END_TIMEOUT) as waited:
        while (await _ask(endpoint)).vmstatus or any(True for _ in journals(place_for(endpoint))):
            await anyio.sleep(_POLL)
    if waited.cancelled_caught:
        raise CommandError(f"the cache is not empty after {END_TIMEOUT:g} s")
    return f"the cache is empty, and stays so until it is started anew: {len(status.vmstatus)} VMs were ended"


async def _stop(endpoint: Path) -> str:
    """Quit, then wait until the server is gone."""
    status = await _ask(endpoint)
    pidfd = os.pidfd_open(status.pid)
    try:
        await _ask(endpoint, is_quit=True)
        with anyio.move_on_after(END_TIMEOUT) as waited:
            await anyio.wait_readable(pidfd)
        if waited.cancelled_caught:
            raise CommandError(f"the server (pid {status.pid}) did not end within {END_TIMEOUT:g} s")
    finally:
        os.close(pidfd)
    return f"the cache has ended, with {len(status.vmstatus)} VMs"


async def _ask(endpoint: Path, is_quit: bool = False) -> GrpcStatus:
    """Status, or Quit; raises `CommandError` where no server answers."""
    channel = Channel(path=str(endpoint))
    try:
        stub = CacheServiceStub(channel)
        if is_quit:
            await stub.quit(timeout=ANSWER_TIMEOUT)
            return GrpcStatus()
        return await stub.status(timeout=ANSWER_TIMEOUT)
    except StreamTerminatedError as error:
        if not is_quit:
            raise CommandError(f"the server at {endpoint} has hung up") from error
        # A server that quits need not say so.
        return GrpcStatus()
    except (OSError, TimeoutError) as error:
        raise CommandError(f"no server answers at {endpoint}: {error or 'it took too long'}") from error
    finally:
        channel.close()
