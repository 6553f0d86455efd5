"""Contract: a VM that was promised is its claimer's, whole, or back in the pool, or dead; never nobody's."""

from __future__ import annotations

import os
import resource
import select
import signal
import socket
from collections.abc import Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import anyio
import pytest

from hypervisor.handover.guardian import launch
from hypervisor.handover.parcel import Facts, Parcel
from hypervisor.handover.process import GuardedProcess
from hypervisor.tail import TailReader
from sandbox.cache import client, service
from sandbox.cache.handing import Ticket
from sandbox.cache.pool import Pool
from sandbox.cache.service import Leases, listen
from sandbox.rundir import start_time

pytestmark = pytest.mark.anyio
PATIENCE = 10.0


class ProcessVm:
    """A process under a guardian in place of a VM."""

    def __init__(self, directory: Path) -> None:
        self.guarded = launch(["/bin/sleep", "100"], {}, directory)
        self.id = "vm-1"
        self.pid = self.guarded.pid
        self.place = directory / "vm"
        self.place.mkdir()
        (self.place / "agent").touch()
        self.journal = self.place / "vm.json"
        self.journal.touch()
        self.pidfd = os.dup(self.guarded.pidfd)
        self.forgotten = self.ended_by_server = False

    async def ended(self) -> str:
        await anyio.sleep_forever()
        return ""

    async def look(self) -> str:
        return ""

    async def release(self) -> Parcel:
        began = start_time(self.pid)
        assert began is not None
        agent = str(self.place / "agent")
        facts = Facts(self.pid, began, self.guarded.guardian, 1, 512, f"serial://{agent}", agent, "x" * 90000, "")
        console, monitor = os.open(os.devnull, os.O_RDONLY), os.open(os.devnull, os.O_RDONLY)
        one = self.guarded
        return Parcel.received(facts, [one.pidfd, one.lifeline, one.answer, one.stderr, console, monitor])

    def forget(self) -> None:
        self.forgotten = True

    async def end(self) -> None:
        self.ended_by_server = True
        signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)

    @property
    def is_dead(self) -> bool:
        return bool(select.select([self.pidfd], [], [], 0)[0])


class Directory:
    """The journal of a pod."""

    def __init__(self, path: Path) -> None:
        self.path = path / "pod"
        self.path.mkdir()
        self.processes: dict[str, int] = {}

    def record_process(self, name: str, pid: int) -> None:
        self.processes[name] = pid


async def until(condition) -> None:
    with anyio.fail_after(PATIENCE):
        while not condition():
            await anyio.sleep(0.001)


@asynccontextmanager
async def leasing(directory: Path):
    """A pool with one VM, and what hands it over."""
    vm = ProcessVm(directory)

    async def make() -> ProcessVm:
        return vm

    pool = Pool(1, make)
    try:
        with listen(directory / "claim") as listener:
            async with anyio.create_task_group() as group:
                leases = Leases(pool, listener, group)
                group.start_soon(pool.run)
                group.start_soon(leases.serve)
                await until(lambda: pool.vms)
                assert pool.take() is vm
                # The one that the pool would make in its place is the same: it is not wanted here.
                pool.is_draining = True
                yield pool, leases, vm
                group.cancel_scope.cancel()
    finally:
        os.kill(vm.guarded.guardian, signal.SIGKILL)
        os.waitpid(vm.guarded.guardian, 0)
        os.close(vm.pidfd)


async def test_a_claimed_vm_is_its_claimers_whole_and_dies_with_it(tmp_path: Path):
    directory = Directory(tmp_path)
    async with leasing(tmp_path) as (_, leases, vm):
        parcel = await client._claim(leases.lease(vm), directory)
        await until(lambda: vm.forgotten)
        assert directory.processes == {"qemu": vm.pid}
        assert not vm.journal.exists()
        assert (directory.path / "agent").exists()
        assert len(parcel.facts.console) == 90000
        assert not vm.is_dead
        parcel.close()
        await until(lambda: vm.is_dead)


async def test_the_claimer_learns_how_it_ended(tmp_path: Path):
    async with leasing(tmp_path) as (_, leases, vm):
        parcel = await client._claim(leases.lease(vm), Directory(tmp_path))
        fds = [parcel.take(name) for name in ("pidfd", "lifeline", "answer", "stderr")]
        process = GuardedProcess(vm.pid, *fds[:3], TailReader(fds[3]))
        process.kill()
        with anyio.fail_after(PATIENCE):
            assert await process.wait() == -signal.SIGKILL
        parcel.close()


async def test_a_claimer_that_dies_before_it_has_journalled_the_vm_takes_it_along(tmp_path: Path):
    async with leasing(tmp_path) as (_, leases, vm):
        ticket = leases.lease(vm)
        with socket.socket(socket.AF_UNIX) as dying:
            dying.connect(ticket.socket)
            dying.sendall(ticket.token.encode() + b"\n")
            while not await anyio.to_thread.run_sync(dying.recv, 1 << 16):
                pass
        await until(lambda: vm.is_dead and vm.forgotten)


async def test_a_vm_that_nobody_claims_is_the_next_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(service, "CLAIM_TIMEOUT", 0.01)
    async with leasing(tmp_path) as (pool, leases, vm):
        leases.lease(vm)
        await until(lambda: pool.vms == [vm])
        pool.is_draining = False
        assert pool.take() is vm
        assert not vm.is_dead


async def test_a_token_is_good_for_one_claim_and_no_other_is(tmp_path: Path):
    async with leasing(tmp_path) as (_, leases, vm):
        ticket = leases.lease(vm)
        for token in ("", "0" * 32, ticket.token[:-1]):
            with pytest.raises(client.CacheError, match="not handed over"):
                await client._claim(Ticket(ticket.socket, token, ticket.journal), Directory.__new__(Directory))
        parcel = await client._claim(ticket, Directory(tmp_path))
        with pytest.raises(client.CacheError, match="not handed over"):
            await client._claim(ticket, Directory.__new__(Directory))
        parcel.close()


async def test_a_server_that_ends_ends_what_it_has_promised(tmp_path: Path):
    async with leasing(tmp_path) as (_, leases, vm):
        leases.lease(vm)
    assert vm.ended_by_server


def test_a_ticket_survives_the_way_and_nonsense_is_refused():
    ticket = Ticket("/run/x", "token", "/run/y")
    assert Ticket.decode(ticket.encode()) == ticket
    for text in (b"", b"[]", b"{}", b'{"socket": 1, "token": "", "journal": ""}'):
        with pytest.raises(ValueError):
            Ticket.decode(text)


async def test_a_vm_that_is_claimed_as_its_time_ends_is_its_claimers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    async with leasing(tmp_path) as (pool, leases, vm):
        parcel = await client._claim(leases.lease(vm), Directory(tmp_path))
        monkeypatch.setattr(service, "CLAIM_TIMEOUT", 0)
        # The task whose sleep has ended can't be cancelled any more.
        await leases._expire("claimed", anyio.CancelScope())
        assert not pool.vms
        parcel.close()


async def test_a_server_without_descriptors_serves_when_there_are_some(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr(service, "PAUSE", 0.01)
    async with leasing(tmp_path) as (_, leases, vm):
        ticket = leases.lease(vm)
        with socket.socket(socket.AF_UNIX) as claimer, few_descriptors():
            claimer.connect(ticket.socket)
            await until(lambda: "can't be accepted" in caplog.text)
        parcel = await client._claim(ticket, Directory(tmp_path))
        parcel.close()


@contextmanager
def few_descriptors() -> Iterator[None]:
    """No further descriptor can be had inside."""
    lowest = os.dup(0)
    os.close(lowest)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
