"""What every `Vm` must do, as tests: subclassed once for the fake and once for QEMU, which provide the `subject`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial

import anyio
import pytest

from hypervisor.errors import HypervisorError, IllegalStateError, VmGoneError
from hypervisor.vm import Diagnostics, Vm

#: Seconds for what should take milliseconds.
PATIENCE = 10.0


@dataclass
class Subject:
    """A VM that was made but not started, and the way to have it die by SIGKILL from outside."""

    vm: Vm
    die: Callable[[], None]


class VmContract:
    """The rules of `hypervisor.vm`, one test each."""

    async def test_before_start_it_has_no_process_and_nothing_to_tell(self, subject: Subject):
        vm = subject.vm
        assert (vm.pid, vm.started, vm.diagnostics()) == (0, False, Diagnostics())

    async def test_before_start_what_needs_a_running_vm_is_illegal(self, subject: Subject):
        vm = subject.vm
        for call in (vm.wait, vm.pause, vm.resume, vm.status, _plug(vm), _unplug(vm)):
            with pytest.raises(IllegalStateError):
                await call()
        with pytest.raises(IllegalStateError):
            _ = vm.agent_url

    async def test_start_makes_it_run(self, subject: Subject):
        await subject.vm.start(PATIENCE)
        assert subject.vm.started
        assert subject.vm.pid > 0
        assert await subject.vm.status() == "running"
        assert "://" in subject.vm.agent_url

    async def test_a_second_start_is_illegal_and_harmless(self, subject: Subject):
        await subject.vm.start(PATIENCE)
        with pytest.raises(IllegalStateError):
            await subject.vm.start(PATIENCE)
        assert await subject.vm.status() == "running"

    async def test_a_device_comes_once_and_goes_and_its_going_is_waited_for(self, subject: Subject):
        vm = subject.vm
        await vm.start(PATIENCE)
        await vm.hotplug.add("virtio-scsi-pci", "bus", vm.hotplug.slots.take("bus").properties)
        await _plug(vm)()
        with pytest.raises(HypervisorError, match=r"plug in scsi-cd drive: .*uplicate"):
            await _plug(vm)()
        await _unplug(vm)()
        await _plug(vm)()

    async def test_a_descriptor_is_passed_under_a_name(self, subject: Subject):
        await subject.vm.start(PATIENCE)
        await subject.vm.hotplug.pass_descriptor("null", 0)
        await subject.vm.hotplug.execute("closefd", {"fdname": "null"})

    async def test_unplugging_what_is_not_there_is_success(self, subject: Subject):
        await subject.vm.start(PATIENCE)
        await _unplug(subject.vm)()

    async def test_pause_and_resume_are_idempotent(self, subject: Subject):
        vm = subject.vm
        await vm.start(PATIENCE)
        await vm.pause()
        await vm.pause()
        assert await vm.status() == "paused"
        await vm.resume()
        await vm.resume()
        assert await vm.status() == "running"

    async def test_a_crash_is_told_to_all_waiters_with_its_signal(self, subject: Subject):
        exits = []
        await subject.vm.start(PATIENCE)

        async def wait() -> None:
            exits.append(await subject.vm.wait())

        with anyio.fail_after(PATIENCE):
            async with anyio.create_task_group() as group:
                group.start_soon(wait)
                group.start_soon(wait)
                subject.die()
        assert exits[0] == exits[1]
        assert (exits[0].returncode, exits[0].signal) == (None, 9)
        assert exits[0].reason == "QEMU was killed by SIGKILL"
        assert not subject.vm.started

    async def test_a_cancelled_waiter_disturbs_no_other(self, subject: Subject):
        await subject.vm.start(PATIENCE)
        with anyio.move_on_after(0.01) as scope:
            await subject.vm.wait()
        assert scope.cancelled_caught
        subject.die()
        with anyio.fail_after(PATIENCE):
            assert (await subject.vm.wait()).signal == 9

    async def test_after_its_end_it_says_why_and_keeps_what_it_was(self, subject: Subject):
        vm = subject.vm
        await vm.start(PATIENCE)
        pid, url = vm.pid, vm.agent_url
        subject.die()
        with anyio.fail_after(PATIENCE):
            await vm.wait()
        for call in (vm.pause, vm.resume, vm.status, _plug(vm), _unplug(vm)):
            with pytest.raises(VmGoneError, match="killed by SIGKILL"):
                await call()
        assert (vm.pid, vm.agent_url, vm.started) == (pid, url, False)
        with pytest.raises(IllegalStateError):
            await vm.start(PATIENCE)

    async def test_calls_on_a_vm_that_dies_just_now_say_why(self, subject: Subject):
        await subject.vm.start(PATIENCE)
        subject.die()

        async def ask_on() -> None:
            while True:
                await subject.vm.status()

        with anyio.fail_after(PATIENCE), pytest.raises(VmGoneError, match="killed by SIGKILL"):
            await ask_on()

    async def test_shutdown_ends_it_in_order_and_is_idempotent(self, subject: Subject):
        await subject.vm.start(PATIENCE)
        with anyio.fail_after(PATIENCE):
            await subject.vm.shutdown(PATIENCE)
            await subject.vm.shutdown(PATIENCE)
            end = await subject.vm.wait()
        assert (end.returncode, end.reason) == (0, "QEMU was told to quit")

    async def test_shutdown_of_a_paused_vm_works(self, subject: Subject):
        await subject.vm.start(PATIENCE)
        await subject.vm.pause()
        with anyio.fail_after(PATIENCE):
            await subject.vm.shutdown(PATIENCE)
            assert (await subject.vm.wait()).returncode == 0

    async def test_shutdown_of_a_dead_vm_is_silent_and_keeps_the_reason(self, subject: Subject):
        await subject.vm.start(PATIENCE)
        subject.die()
        with anyio.fail_after(PATIENCE):
            await subject.vm.shutdown(PATIENCE)
            assert (await subject.vm.wait()).signal == 9

    async def test_kill_is_immediate_and_idempotent(self, subject: Subject):
        await subject.vm.start(PATIENCE)
        subject.vm.kill()
        subject.vm.kill()
        with anyio.fail_after(PATIENCE):
            assert (await subject.vm.wait()).signal == 9
        subject.vm.kill()

    @pytest.mark.parametrize("how", ["kill", "shutdown"])
    async def test_ended_before_start_it_never_starts(self, subject: Subject, how: str):
        if how == "kill":
            subject.vm.kill()
        else:
            await subject.vm.shutdown(PATIENCE)
        with pytest.raises(IllegalStateError):
            await subject.vm.start(PATIENCE)
        end = await subject.vm.wait()
        assert (end.returncode, end.signal, subject.vm.pid) == (None, None, 0)
        assert "not started" in end.reason

    async def test_killed_while_it_starts_start_says_so(self, subject: Subject):
        vm = subject.vm

        async def kill() -> None:
            vm.kill()

        with anyio.fail_after(PATIENCE):
            async with anyio.create_task_group() as group:
                group.start_soon(kill)
                with pytest.raises(HypervisorError, match="killed by SIGKILL"):
                    await vm.start(PATIENCE)
        assert (await vm.wait()).signal == 9
        assert not vm.started

    async def test_a_cancelled_start_leaves_a_dead_vm(self, subject: Subject):
        with anyio.CancelScope() as scope:
            scope.cancel()
            await subject.vm.start(PATIENCE)
        assert scope.cancelled_caught
        assert not subject.vm.started
        with anyio.fail_after(PATIENCE):
            assert (await subject.vm.wait()).signal == 9


def _plug(vm: Vm) -> Callable[[], Awaitable[None]]:
    """An empty drive on a controller: a device that goes whatever the guest does."""
    return partial(vm.hotplug.add, "scsi-cd", "drive", {"bus": "bus.0"})


def _unplug(vm: Vm) -> Callable[[], Awaitable[None]]:
    return partial(vm.hotplug.remove, "drive", PATIENCE)
