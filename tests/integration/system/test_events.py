"""What containerd's clients are told, and in which order."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.harness.events import Event, Events, watch
from tests.integration.system.vm import Vm

pytestmark = pytest.mark.integration

_LIFE = ["/tasks/create", "/tasks/start", "/tasks/exit", "/tasks/delete"]


def _one(events: Events, topic: str, subject: str) -> Event:
    """The only event of `topic` about `subject`."""
    (found,) = (event for event in events.seen if (event.topic, event.subject) == (topic, subject))
    return found


def test_containers_that_exit_at_once_have_each_event_once_and_in_order(vm: Vm) -> None:
    containers = {vm.new_id(): number for number in range(9)}
    with watch(vm.ctr) as events, ThreadPoolExecutor(4) as threads:
        ends = threads.map(
            lambda item: vm.run("sh", "-c", f"exit {item[1]}", container=item[0]).returncode, containers.items()
        )
        assert list(ends) == list(containers.values())
        for container in containers:
            events.expect("/tasks/delete", container)

        for container, code in containers.items():
            assert [topic for topic, _ in events.of(container)] == _LIFE
            for topic in ("/tasks/exit", "/tasks/delete"):
                assert _one(events, topic, container).data.get("exit_status", 0) == code


def test_an_exec_has_its_own_events_between_those_of_its_container(vm: Vm) -> None:
    with watch(vm.ctr) as events:
        with vm.container() as container:
            assert vm.exec(container, "sh", "-c", "exit 5").returncode == 5
        events.expect("/tasks/delete", container)

        exec_id = _one_exec(events, container)
        assert events.of(container) == [
            ("/tasks/create", container),
            ("/tasks/start", container),
            ("/tasks/exec-added", exec_id),
            ("/tasks/exec-started", exec_id),
            ("/tasks/exit", exec_id),
            ("/tasks/exit", container),
            ("/tasks/delete", container),
        ]
        assert _one(events, "/tasks/exit", exec_id).data["exit_status"] == 5


def _one_exec(events: Events, container: str) -> str:
    (exec_id,) = {subject for _, subject in events.of(container)} - {container}
    return exec_id


def test_the_execs_of_a_killed_container_end_before_it(vm: Vm) -> None:
    with watch(vm.ctr) as events:
        with vm.container() as container:
            command = ("task", "exec", "--exec-id")
            first, second = vm.new_id(), vm.new_id()
            with (
                vm.ctr.background(*command, first, container, "sleep", "1000") as one,
                vm.ctr.background(*command, second, container, "sleep", "1000") as two,
            ):
                for exec_id in (first, second):
                    events.expect("/tasks/exec-started", exec_id)

                vm.ctr.kill(container).check()

                assert (one.wait(20), two.wait(20)) == (137, 137)
                assert vm.exit_code(container) == 137
        events.expect("/tasks/delete", container)

    exits = [subject for topic, subject in events.of(container) if topic == "/tasks/exit"]
    assert sorted(exits[:2]) == sorted([first, second])
    assert exits[2:] == [container]


def test_pause_and_resume_are_told(vm: Vm) -> None:
    with watch(vm.ctr) as events, vm.container() as container:
        vm.ctr("task", "pause", container).check()
        vm.ctr("task", "resume", container).check()
        events.expect("/tasks/resumed", container)

        assert [topic for topic, _ in events.of(container)][2:] == ["/tasks/paused", "/tasks/resumed"]


def test_a_container_that_cannot_be_made_has_no_events_of_a_task(vm: Vm) -> None:
    with watch(vm.ctr) as events:
        failed, worked = vm.new_id(), vm.new_id()
        assert vm.run("/no/such/program", container=failed).returncode != 0
        assert vm.run("true", container=worked).returncode == 0
        events.expect("/tasks/delete", worked)

        assert "/tasks/start" not in [topic for topic, _ in events.of(failed)]
        assert "/tasks/exit" not in [topic for topic, _ in events.of(failed)]


def test_the_pod_s_own_end_is_told_after_those_of_its_containers(vm: Vm) -> None:
    pod = Vm(vm.bed, "ending")
    with watch(vm.ctr) as events:
        pod.boot()
        with pod.container() as container:
            pod.ctr.kill(container).check()
            assert pod.exit_code(container) == 137
        pod.remove()
        events.expect("/tasks/delete", pod.id)

        assert [topic for topic, _ in events.of(pod.id)] == _LIFE
        assert [topic for topic, _ in events.of(container)] == _LIFE
        order = [event.subject for event in events.seen if event.topic == "/tasks/exit"]
        assert order == [container, pod.id]
