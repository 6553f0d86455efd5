"""Throws random requests at a real agent service with a fake crun, in namespaces where it can harm nobody.

To be run by `unshare` with user, mount, network, IPC, UTS and PID namespaces of its own. All of the file system is made
read-only but for a tmpfs at /mnt, which holds the agent's directories and, beside them, files that are not its own.
Arguments: the number of examples, and of connections full of garbage. Prints one JSON object.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import json
import os
import struct
import sys
import traceback
from collections import Counter
from pathlib import Path
from typing import Any

from grpclib.const import Status
from grpclib.exceptions import GRPCError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from guest.agent import kernel, sandbox
from guest.agent.agent import Agent
from guest.agent.cmdline import Options
from guest.agent.layout import Layout
from guest.agent.log import Console
from guest.agent.namespaces import SharedNamespaces
from guest.agent.service import AgentService, HealthService
from protos.codec import decode
from protos.lean.gen import grpc as pb
from tests.unit.guest_agent import fuzz_bytes
from tests.unit.guest_agent.fuzz_requests import calls

#: A directory that every host has.
PLACE = Path("/mnt")
FAKE_CRUN = Path(__file__).with_name("fake_crun.py")
#: A call that waits for something that may never happen is given up after this, in seconds; any other may take longer.
PATIENT = {"wait_process", "read_stdout", "read_stderr", "get_oom_event", "write_stdin"}
WAIT_SECONDS, CALL_SECONDS = 0.05, 20.0
#: What an RPC may answer with; UNKNOWN is an error that nobody foresaw.
CODES = {
    Status.INVALID_ARGUMENT,
    Status.NOT_FOUND,
    Status.ALREADY_EXISTS,
    Status.FAILED_PRECONDITION,
    Status.PERMISSION_DENIED,
    Status.RESOURCE_EXHAUSTED,
    Status.DEADLINE_EXCEEDED,
    Status.UNIMPLEMENTED,
    Status.INTERNAL,
}
#: The RPCs that are tried; the one that ends the agent comes last and by itself.
RPCS = {method[1] for method in AgentService.METHODS} - {"destroy_sandbox"}
#: mount_setattr(2), and mount(2)'s flags.
_AT_FDCWD, _AT_RECURSIVE, _RDONLY, _MOUNT_SETATTR = -100, 0x8000, 1, 442
_MS_REC, _MS_PRIVATE = 0x4000, 0x40000


def enclose() -> None:
    """Make everything read-only but a fresh file system at `PLACE`."""
    kernel.mount("none", "/", "", _MS_REC | _MS_PRIVATE, "")
    _set_read_only(b"/", _AT_RECURSIVE)
    kernel.mount("fuzz", str(PLACE), "tmpfs", 0, "")


def _set_read_only(path: bytes, flags: int) -> None:
    attributes = struct.pack("QQQQ", _RDONLY, 0, 0, 0)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syscall(_MOUNT_SETATTR, _AT_FDCWD, path, flags, attributes, len(attributes)):
        raise OSError(ctypes.get_errno(), "mount_setattr")


def prepare() -> tuple[Layout, str]:
    """The agent's directories, a fake crun, and what is not the agent's to touch."""
    guest, outside = PLACE / "guest", PLACE / "outside"
    # A guest has one there, and shows its own in its place.
    sandbox.MACHINE_ID = "/nonexistent/machine-id"
    layout = Layout(
        **{name: str(guest / name) for name in ("state", "cgroup", "proc", "sys", "dev")}
        | {"shared_run": str(guest / "run")}
    )
    for container in ("c1", "c2"):
        os.makedirs(f"{layout.shared_containers}/{container}/rootfs")
    for directory in (layout.state, layout.cgroup, layout.proc, layout.sys, layout.dev, outside):
        os.makedirs(directory)
    (outside / "file").write_text("not the agent's")
    os.symlink(outside, f"{layout.shared_containers}/link")
    crun = PLACE / "crun"
    crun.write_text(f'#!/bin/sh\nexec {sys.executable} -I -S {FAKE_CRUN} "$@"\n')
    crun.chmod(0o755)
    return layout, str(crun)


def snapshot() -> dict[str, Any]:
    """What a guest's host must not be able to change by any request: files outside, and mounts over others' places."""
    outside = {
        str(path): (path.lstat().st_mode, path.read_bytes() if path.is_file() else b"")
        for path in [PLACE / "crun", *sorted((PLACE / "outside").rglob("*"))]
    }
    with open("/proc/self/mountinfo", encoding="utf-8") as file:
        points = sorted(line.split()[4] for line in file)
    mounts = [point for point in points if not point.startswith(f"{PLACE}/guest/")]
    return {"files": outside, "mounts": mounts}


def resident_kib() -> int:
    """This process' memory, of which the agent's is a part."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 1024


class Fuzz:
    """One agent, and what went wrong with it."""

    def __init__(self, agent: Agent) -> None:
        self.service = AgentService(agent)
        self.codes: Counter[str] = Counter()
        self.rpcs: set[str] = set()
        self.faults: list[str] = []

    async def call(self, name: str, data: bytes, request: type[Any]) -> None:
        """One call; anything but an answer or a proper error is a fault."""
        self.rpcs.add(name)
        seconds = WAIT_SECONDS if name in PATIENT else CALL_SECONDS
        code = "OK"
        try:
            async with asyncio.timeout(seconds):
                await getattr(self.service, name)(decode(request, data))
        except GRPCError as error:
            code = error.status.name
            text = error.message or ""
            if error.status not in CODES or not text.isprintable() or not 0 < len(text) <= 2000:
                self.faults.append(f"{name}: {error!r} for {data[:300]!r}")
        except TimeoutError:
            code = "PENDING"
            if name not in PATIENT:
                self.faults.append(f"{name}: no end in {seconds} s for {data[:300]!r}")
        except Exception as error:
            place = traceback.extract_tb(error.__traceback__)[-1]
            self.faults.append(f"{name}: {error!r} in {place.filename}:{place.lineno} for {data[:300]!r}")
        self.codes[code] += 1

    async def reset(self) -> None:
        """Containers `c1` (running) and `c2` (made) in a sandbox, as far as the last round has not left them so."""
        with contextlib.suppress(GRPCError):
            await self.service.create_sandbox(pb.CreateSandboxRequest())
        for container_id, starts in (("c1", True), ("c2", False)):
            root = pb.Root(path=f"{PLACE}/guest/run/shared/containers/{container_id}/rootfs")
            process = pb.Process(args=["cat"], env=["PATH=/usr/bin:/bin"], cwd="/", user=pb.User())
            spec = pb.Spec(process=process, root=root, linux=pb.Linux())
            with contextlib.suppress(GRPCError):
                await self.service.create_container(pb.CreateContainerRequest(container_id=container_id, oci=spec))
            if starts:
                with contextlib.suppress(GRPCError):
                    await self.service.start_container(pb.StartContainerRequest(container_id=container_id))


def fuzz(loop: asyncio.AbstractEventLoop, target: Fuzz, examples: int) -> None:
    """Run in a thread beside the agent's loop."""
    methods = tuple(method for method in AgentService.METHODS if method[1] in RPCS)

    @settings(
        max_examples=examples, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck)
    )
    @given(st.lists(calls(methods), min_size=1, max_size=6))
    def rounds(sequence: list[tuple[str, bytes, type[Any]]]) -> None:
        async def play() -> None:
            async with asyncio.timeout(CALL_SECONDS):
                await target.reset()
            for item in sequence:
                await target.call(*item)

        asyncio.run_coroutine_threadsafe(play(), loop).result()

    rounds()


async def run(examples: int, connections: int) -> dict[str, Any]:
    """Fuzz, see that the agent still works, take it down."""
    layout, crun = prepare()
    SharedNamespaces.create = lambda self, hostname: os.makedirs(self._directory, exist_ok=True)  # type: ignore[method-assign]
    SharedNamespaces.remove = lambda self: None  # type: ignore[method-assign]
    kernel.set_subreaper(True)
    before = snapshot()
    async with asyncio.TaskGroup() as group:
        options = Options()
        options.hotplug_timeout = 0.05
        agent = Agent(group, layout, options, Console(os.open(os.devnull, os.O_WRONLY)), crun)
        agent.reaper.start()
        target = Fuzz(agent)
        memory = resident_kib()
        await asyncio.to_thread(fuzz, asyncio.get_running_loop(), target, examples)
        answered = await fuzz_bytes.throw([target.service, HealthService()], connections)
        after = snapshot()
        memory = resident_kib() - memory
        async with asyncio.timeout(60):
            await target.service.destroy_sandbox(pb.DestroySandboxRequest())
        agent.work.end_background()
        agent.close()
    return {
        "faults": target.faults,
        "codes": target.codes,
        "unasked": sorted(RPCS - target.rpcs),
        "answered": answered,
        "grew_kib": memory,
        "untouched": before["files"] == after["files"],
        "foreign_mounts": sorted(set(after["mounts"]) - set(before["mounts"])),
        "missing_mounts": sorted(set(before["mounts"]) - set(after["mounts"])),
    }


def main() -> None:
    """Enclose, fuzz, report."""
    enclose()
    print(json.dumps(asyncio.run(run(int(sys.argv[1]), int(sys.argv[2])))))


if __name__ == "__main__":
    main()
