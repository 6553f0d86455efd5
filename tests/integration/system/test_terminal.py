"""Containers and execs on a terminal: ctr on one end, the guest's on the other."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.harness.images import BUSYBOX
from tests.integration.system.terminal import Terminal, on_terminal
from tests.integration.system.vm import Vm

pytestmark = pytest.mark.integration


@contextmanager
def _run(vm: Vm, *command: str, columns: int = 80, rows: int = 24) -> Iterator[Terminal]:
    container = vm.new_id()
    flags = ["--rm", "--tty", *vm.annotation_flags]
    arguments = vm.ctr.run_arguments(container, *command, options=flags, image=BUSYBOX)
    with on_terminal(vm.ctr.command(*arguments), columns, rows) as terminal:
        try:
            yield terminal
        finally:
            if container in vm.ctr.containers():
                vm.ctr.remove(container)


def test_a_container_on_a_terminal_has_its_size_and_follows_it(vm: Vm) -> None:
    script = (
        "trap 'stty size; exit 5' WINCH; test -t 0 && test -t 1 && test -t 2 && tty; stty size;"
        "while :; do sleep 0.1; done"
    )
    with _run(vm, "sh", "-c", script, columns=101, rows=37) as terminal:
        assert "/dev/pts/0" in terminal.expect("37 101")

        terminal.resize(132, 50)

        terminal.expect("50 132")
        assert terminal.wait() == 5


def test_keys_reach_a_shell_and_interrupt_what_it_runs(vm: Vm) -> None:
    with _run(vm, "sh") as terminal:
        terminal.expect("# ")
        terminal.type("echo $((6 * 7))\n")
        terminal.expect("\n42")
        terminal.type("sh -c 'echo going; sleep 1000'\n")
        terminal.expect("\ngoing")
        terminal.type("\x03")
        terminal.expect("# ")
        terminal.type("exit 9\n")
        assert terminal.wait() == 9


def test_all_output_of_a_short_process_is_printed(vm: Vm) -> None:
    with _run(vm, "seq", "1", "2000") as terminal:
        assert terminal.wait() == 0
        printed = terminal.output

    assert printed.split() == [str(number) for number in range(1, 2001)]


def test_an_exec_on_a_terminal_has_one_of_its_own(vm: Vm) -> None:
    with vm.image_container() as container:
        command = vm.ctr.command("task", "exec", "--exec-id", vm.new_id(), "--tty", container, "sh")
        with on_terminal(command, 77, 33) as terminal:
            terminal.expect("# ")
            terminal.type("stty size; tty\n")
            assert "33 77" in terminal.expect("/dev/pts/")
            terminal.resize(44, 22)
            terminal.type("until stty size | grep -q '22 44'; do :; done; echo size has changed\n")
            terminal.expect("\nsize has changed")
            terminal.expect("# ")
            terminal.type("\x04")
            assert terminal.wait() == 0
