"""The waiting VMs: kept full in the background, taken the oldest first, and looked after while they wait.

A VM is in exactly one place: being made, waiting, being looked at, or taken. `take` and `put_back` never wait, so any
number of clients at once get as many different VMs.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

import anyio
import anyio.abc

#: Seconds until a VM is replaced however well it is: what a kernel draws at its boot gets no older.
MAX_AGE = 86400.0
#: Seconds between two looks at a waiting VM.
LOOK_EVERY = 120.0
#: VMs that are made at a time.
MAKERS = 2
#: Seconds until another is made after one could not be: the first pause, and the longest.
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0

#: Seconds after a VM was taken in which none is made: its pod, which starts, needs the processors more.
LULL = 1.0

_log = logging.getLogger(__name__)


class PoolVm(Protocol):
    """What the pool needs of a VM."""

    @property
    def id(self) -> str:
        """Its name in the cache."""

    @property
    def pid(self) -> int:
        """QEMU's."""

    async def ended(self) -> str:
        """Wait for its end; why, in one line."""

    async def look(self) -> str:
        """Have its agent answer; what is wrong, in one line, or nothing. Only while it waits."""

    async def end(self) -> None:
        """End it, and remove what it had; idempotent."""


V = TypeVar("V", bound=PoolVm)


@dataclass
class _Waiting(Generic[V]):
    vm: V
    made: float
    #: Ends the watch over it.
    watch: anyio.CancelScope = field(default_factory=anyio.CancelScope)
    looked: float = 0.0


class Pool(Generic[V]):
    """`number` VMs made by `make`. Use: `run` in a task for as long as there is a pool, the rest meanwhile."""

    def __init__(
        self,
        number: int,
        make: Callable[[], Awaitable[V]],
        *,
        makers: int = MAKERS,
        max_age: float = MAX_AGE,
        look_every: float = LOOK_EVERY,
        pause: float = FIRST_PAUSE,
        lull: float = LULL,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`make` raises `Exception` when there can be no VM now. Times in seconds."""
        self._number = number
        self._make = make
        self._makers = makers
        self._max_age = max_age
        self._look_every = look_every
        self._first_pause = pause
        self._lull = lull
        self._quiet_until = clock()
        self._clock = clock
        self._waiting: list[_Waiting[V]] = []
        #: VMs that are being made or looked at: they count.
        self._busy = 0
        self._changed = anyio.Event()
        self._group: anyio.abc.TaskGroup | None = None
        #: Whether no VM is made or given out any more.
        self.is_draining = False

    @property
    def vms(self) -> list[V]:
        """Those that wait, the oldest first."""
        return [each.vm for each in self._waiting]

    async def run(self) -> None:
        """Keep the pool full until cancelled; then all that wait are ended."""
        try:
            async with anyio.create_task_group() as self._group:
                for _ in range(self._makers):
                    self._group.start_soon(self._refill)
                await self._look_after()
        finally:
            self._group = None
            with anyio.CancelScope(shield=True):
                await self._end_all()

    def take(self) -> V | None:
        """The oldest VM, which is the caller's then; None if none is ready."""
        if self.is_draining or not self._waiting:
            return None
        entry = self._waiting.pop(0)
        entry.watch.cancel()
        self._quiet_until = self._clock() + self._lull
        self._wake()
        return entry.vm

    def put_back(self, vm: V) -> None:
        """A VM that was taken, and not used, is the first to be taken again; one too many is the next to go."""
        if self._group is None:
            return
        self._add(vm, first=True)

    async def drain(self) -> None:
        """Make and give out no more, and end those that wait; idempotent."""
        self.is_draining = True
        self._wake()
        await self._end_all()

    def _add(self, vm: V, first: bool = False) -> None:
        now = self._clock()
        entry = _Waiting(vm, now, looked=now)
        self._waiting.insert(0 if first else len(self._waiting), entry)
        if self._group is not None:
            self._group.start_soon(self._watch, entry)
        self._wake()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()

    async def _watch(self, entry: _Waiting[V]) -> None:
        """A VM that ends while it waits is no more."""
        with entry.watch:
            reason = await entry.vm.ended()
            if entry in self._waiting:
                self._waiting.remove(entry)
                self._wake()
            await self._drop(entry.vm, reason)

    async def _drop(self, vm: V, reason: str) -> None:
        _log.warning("VM %s of the cache is dropped: %s", vm.id, reason)
        with anyio.CancelScope(shield=True):
            await vm.end()

    async def _refill(self) -> None:
        pause = self._first_pause
        while True:
            await self._wanted()
            self._busy += 1
            try:
                vm = await self._make()
            except Exception as error:  # noqa: BLE001 - whatever it is, the next attempt may work
                _log.warning("no VM for the cache: %s; the next attempt is in %g s", error, pause)
                await anyio.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE)
                continue
            finally:
                self._busy -= 1
            pause = self._first_pause
            if self._wants_more():
                self._add(vm)
            else:
                await vm.end()

    async def _wanted(self) -> None:
        """Wait until another VM is, and nobody needs the processors more."""
        while True:
            lull = self._quiet_until - self._clock()
            if not self._wants_more():
                await self._changed.wait()
            elif lull > 0:
                await anyio.sleep(lull)
            else:
                return

    def _wants_more(self) -> bool:
        return not self.is_draining and len(self._waiting) + self._busy < self._number

    async def _look_after(self) -> None:
        """One VM at a time is taken aside, and replaced if it is old or its agent does not answer."""
        while True:
            await anyio.sleep(self._look_every / 10)
            for entry in list(self._waiting):
                if entry in self._waiting and self._clock() - entry.looked >= self._look_every:
                    await self._look_at(entry)

    async def _look_at(self, entry: _Waiting[V]) -> None:
        position = self._waiting.index(entry)
        self._waiting.remove(entry)
        self._busy += 1
        entry.watch.cancel()
        entry.watch = anyio.CancelScope()
        try:
            age = self._clock() - entry.made
            problem = f"it is {age:.0f} s old" if age > self._max_age else await entry.vm.look()
        except BaseException:
            with anyio.CancelScope(shield=True):
                await entry.vm.end()
            raise
        finally:
            self._busy -= 1
        if problem or self.is_draining:
            await self._drop(entry.vm, problem or "the cache is drained")
        else:
            entry.looked = self._clock()
            self._waiting.insert(min(position, len(self._waiting)), entry)
            if self._group is not None:
                self._group.start_soon(self._watch, entry)
        self._wake()

    async def _end_all(self) -> None:
        while self._waiting:
            entry = self._waiting.pop()
            entry.watch.cancel()
            await entry.vm.end()
