"""Events: in order, again until they arrive, bounded, and never in the way."""

from __future__ import annotations

from collections.abc import Callable

import anyio
import pytest

from protos import anys
from protos.gen.containerd import events
from protos.gen.containerd.types import Envelope
from shim import events as shim_events
from shim.events import TOPICS, Publisher, UndeliveredError

pytestmark = pytest.mark.anyio


class Receiver:
    """Where events go; `fail` is asked before each whether it fails."""

    def __init__(self, fail: Callable[[Envelope], Exception | None] = lambda _: None) -> None:
        self.envelopes: list[Envelope] = []
        self.attempts = 0
        self._fail = fail

    async def __call__(self, envelope: Envelope) -> None:
        self.attempts += 1
        if error := self._fail(envelope):
            raise error
        self.envelopes.append(envelope)

    @property
    def topics(self) -> list[str]:
        return [envelope.topic for envelope in self.envelopes]


async def _drain(publisher: Publisher) -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(publisher.run)
        with anyio.fail_after(10):
            await publisher.flush()
        group.cancel_scope.cancel()


async def test_an_envelope_is_what_containerds_exchange_takes() -> None:
    receiver = Receiver()
    publisher = Publisher("k8s.io", receiver)

    publisher.publish(events.TaskStart(container_id="c1", pid=7))
    await _drain(publisher)

    (envelope,) = receiver.envelopes
    assert (envelope.namespace, envelope.topic) == ("k8s.io", "/tasks/start")
    assert envelope.timestamp is not None
    assert envelope.timestamp.seconds > 0
    assert envelope.event is not None
    assert envelope.event.type_url == "containerd.events.TaskStart"
    assert anys.unpack(envelope.event, events.TaskStart).pid == 7


def test_every_task_event_has_its_topic() -> None:
    assert TOPICS[events.TaskExit] == "/tasks/exit"
    assert TOPICS[events.TaskOom] == "/tasks/oom"
    assert TOPICS[events.TaskExecStarted] == "/tasks/exec-started"
    assert len(set(TOPICS.values())) == len(TOPICS) == 10


async def test_the_order_is_that_of_publishing() -> None:
    receiver = Receiver()
    publisher = Publisher("ns", receiver)

    for number in range(100):
        publisher.publish(events.TaskOom(container_id=str(number)))
    await _drain(publisher)

    names = [anys.unpack(e.event, events.TaskOom).container_id for e in receiver.envelopes if e.event]
    assert names == [str(number) for number in range(100)]


async def test_an_event_is_tried_again_before_the_next_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shim_events, "FIRST_RETRY", 0.001)
    failures = iter([UndeliveredError("away")] * 4)
    receiver = Receiver(lambda _: next(failures, None))
    publisher = Publisher("ns", receiver)

    async with anyio.create_task_group() as group:
        group.start_soon(publisher.run)
        publisher.publish(events.TaskCreate(container_id="c1"))
        publisher.publish(events.TaskStart(container_id="c1"))
        with anyio.fail_after(10):
            while publisher.pending:
                await anyio.sleep(0.001)
        group.cancel_scope.cancel()

    assert receiver.topics == ["/tasks/create", "/tasks/start"]
    assert receiver.attempts == 6


async def test_a_refused_event_holds_up_no_other() -> None:
    receiver = Receiver(lambda envelope: ValueError("no") if envelope.topic == "/tasks/create" else None)
    publisher = Publisher("ns", receiver)

    publisher.publish(events.TaskCreate(container_id="c1"))
    publisher.publish(events.TaskStart(container_id="c1"))
    await _drain(publisher)

    assert receiver.topics == ["/tasks/start"]


async def test_a_full_queue_drops_the_oldest_and_keeps_the_one_being_sent() -> None:
    gate = anyio.Event()
    sent: list[str] = []

    async def slow(envelope: Envelope) -> None:
        await gate.wait()
        assert envelope.event is not None
        sent.append(anys.unpack(envelope.event, events.TaskOom).container_id)

    publisher = Publisher("ns", slow, limit=3)
    async with anyio.create_task_group() as group:
        group.start_soon(publisher.run)
        publisher.publish(events.TaskOom(container_id="0"))
        await anyio.wait_all_tasks_blocked()
        for number in range(1, 7):
            publisher.publish(events.TaskOom(container_id=str(number)))
        gate.set()
        await publisher.flush()
        group.cancel_scope.cancel()

    assert sent == ["0", "4", "5", "6"]


async def test_flushing_does_not_wait_out_a_long_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shim_events, "FIRST_RETRY", 60.0)
    away = True
    receiver = Receiver(lambda _: UndeliveredError("away") if away else None)
    publisher = Publisher("ns", receiver)

    async with anyio.create_task_group() as group:
        group.start_soon(publisher.run)
        publisher.publish(events.TaskStart(container_id="c1"))
        await anyio.wait_all_tasks_blocked()
        away = False
        with anyio.fail_after(5):
            await publisher.flush()
        group.cancel_scope.cancel()

    assert receiver.topics == ["/tasks/start"]


async def test_flushing_nothing_returns_at_once() -> None:
    with anyio.fail_after(1):
        await Publisher("ns", Receiver()).flush()
