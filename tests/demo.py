"""`make demo`: a container and a pod, each in a virtual machine of its own, under a private containerd.

Shows, with a duration for each step and for each phase of each start, that ctr and CRI run containers in a guest, that
a pod is one machine, and that nothing is left. Exits with 1 and a line that names the cause if anything is not as it
should be, with 2 if this machine can't run it. `--runtime runc` does the same on the host's kernel, to compare.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from grpclib.exceptions import GRPCError

from tests.harness import guest, inventory, paths
from tests.harness.bed import Bed, BedError, missing_here, open_bed, other_beds
from tests.harness.command import CommandError
from tests.harness.containerd import ContainerdError
from tests.harness.cri import Container, Cri
from tests.harness.leaks import LeakCheck, LeakError
from tests.harness.nursery import NurseryError
from tests.harness.phases import LogReader
from tests.harness.runtimes import KATA, RUNTIMES, Runtime
from tests.harness.waiting import WaitTimeoutError, eventually, eventually_async

#: An exit code that nothing but the container's own command gives.
EXIT_CODE = 7

#: What may go wrong, each with a message of its own.
FAILURES = (BedError, CommandError, ContainerdError, LeakError, NurseryError, WaitTimeoutError, OSError, ValueError)


class DemoError(Exception):
    """Something is not as it should be; one line."""


def say(text: str) -> None:
    """A line of progress, at once."""
    print(text, flush=True)


@contextmanager
def step(title: str) -> Iterator[None]:
    """Show what is done, then how long it took."""
    print(f"   {title} ... ", end="", flush=True)
    began = time.monotonic()
    try:
        yield
    except BaseException:
        say("FAILED")
        raise
    say(f"{time.monotonic() - began:.2f} s")


def expect(condition: bool, complaint: str) -> None:
    """Raise `DemoError` unless `condition` holds."""
    if not condition:
        raise DemoError(complaint)


class Demo:
    """The acts, in order, on one bed."""

    def __init__(self, bed: Bed) -> None:
        self._bed = bed
        self._log = LogReader(bed.containerd.log)
        self._check: LeakCheck = bed.leak_check()

    def show_phases(self, starts: int) -> None:
        """Print the phases of the starts that were logged since the last call; the log may lag a moment behind."""
        if self._bed.runtime is not KATA:
            return
        found = self._log.starts()

        def all_logged() -> bool:
            found.extend(self._log.starts())
            return len(found) >= starts

        eventually(all_logged, f"the phases of {starts} starts are in {self._bed.containerd.log}", timeout=5)
        for start in found:
            say(f"      {start}")

    def check_kernel(self, kernel: str) -> None:
        """The kernel is the guest's own with kata, and the host's with runc."""
        host = guest.host_kernel()
        if self._bed.runtime is KATA:
            expect(bool(kernel) and kernel != host, f"uname -r says {kernel!r}, and the host's kernel is {host} too")
        else:
            expect(kernel == host, f"uname -r says {kernel!r}, and the host's kernel is {host}")

    def container(self) -> None:
        """a. One container through ctr."""
        say(f"\n== a. ctr run --rm --runtime {self._bed.runtime.type}")
        with step(f"run sh -c 'uname -r; exit {EXIT_CODE}'"):
            done = self._bed.ctr().run("demo", "sh", "-c", f"uname -r; exit {EXIT_CODE}")
        expect(done.returncode == EXIT_CODE, f"exit code {done.returncode} instead of {EXIT_CODE}: {done.error_text}")
        self.check_kernel(done.text)
        self.show_phases(starts=2)
        say(f"   guest kernel {done.text}, host kernel {guest.host_kernel()}; exit code {done.returncode} came through")
        with step("nothing is left of it"):
            self._check.assert_clean()

    async def pod(self) -> None:
        """b. A pod with two containers through CRI."""
        say("\n== b. a pod with two containers, through CRI (runtime.v1)")
        async with Cri.connect(self._bed.socket, self._bed.pod_logs, self._bed.runtime) as cri:
            await cri.wait_for_image()
            with step("RunPodSandbox"):
                pod = await cri.run_pod("demo")
            self.show_phases(starts=2)
            with step("CreateContainer, StartContainer: worker"):
                worker = await cri.run(pod, "worker", "sleep", "1000")
            with step("CreateContainer, StartContainer: talker"):
                script = "trap 'exit 0' TERM; echo hello from $(hostname); while :; do sleep 0.1; done"
                talker = await cri.run(pod, "talker", "sh", "-c", script)
            self.show_phases(starts=2)
            await self._look_inside(cri, worker, talker)
            with step("StopContainer: both"):
                await asyncio.gather(cri.stop(talker, grace=10), cri.stop(worker, grace=1))
            status = await cri.status(talker)
            expect(status.exit_code == 0, f"talker ended with {status.exit_code} on SIGTERM instead of 0")
            with step("RemoveContainer: both"):
                await asyncio.gather(cri.remove(talker), cri.remove(worker))
            with step("StopPodSandbox, RemovePodSandbox"):
                await cri.remove_all()

    async def _look_inside(self, cri: Cri, worker: Container, talker: Container) -> None:
        """One machine for both, exec with its exit code, the log, stats."""
        with step("ExecSync in both: kernel and boot id"):
            kernel, boot_id = guest.identity((await cri.exec(worker, *guest.IDENTITY_COMMAND)).text)
            _, other_boot_id = guest.identity((await cri.exec(talker, *guest.IDENTITY_COMMAND)).text)
        self.check_kernel(kernel)
        expect(boot_id == other_boot_id, f"two containers of a pod, two boot ids: {boot_id} and {other_boot_id}")
        own = boot_id != guest.host_boot_id()
        expect(own == (self._bed.runtime is KATA), f"boot id {boot_id} {'is not' if own else 'is'} the host's")
        say(f"   both run on kernel {kernel}, boot id {boot_id}: one machine")
        failing = await cri.exec(worker, "sh", "-c", f"exit {EXIT_CODE}")
        expect(failing.exit_code == EXIT_CODE, f"exec: exit code {failing.exit_code} instead of {EXIT_CODE}")

        async def logged() -> str:
            return "\n".join(line.text for line in talker.log())

        text = await eventually_async(logged, f"{talker.log_path} has a line")
        expect(text.startswith("hello from "), f"log of talker: {text!r}")
        say(f"   log of talker: {text}")
        await self._show_stats(cri, worker)

    async def _show_stats(self, cri: Cri, container: Container) -> None:
        stats = await cri.stats(container)
        used = stats.memory.working_set_bytes if stats.memory else None
        cpu = stats.cpu.usage_core_nano_seconds if stats.cpu else None
        expect(used is not None and used.value > 0, "stats: the container's working set is missing or 0")
        expect(cpu is not None and cpu.value > 0, "stats: the container's CPU time is missing or 0")
        if used and cpu:
            say(f"   stats of worker: {used.value / 2**20:.1f} MiB in memory, {cpu.value / 1e6:.1f} ms of CPU time")

    def nothing_left(self) -> None:
        """c. Everything stopped: compare the machine with what it was before the first container."""
        say("\n== c. nothing is left")
        with step("compare with before the first container"):
            self._check.assert_clean()


def run(runtime: Runtime) -> None:
    """The whole demo; raises one of `FAILURES`, `DemoError`, `GRPCError` or `TimeoutError`."""
    say("\n== a private containerd, with images made here")
    before = LeakCheck(lambda: inventory.Scope(alone=not other_beds(paths.BEDS / "demo")))
    with ExitStack() as stack:
        with step("containerd, images, pod network"):
            bed = stack.enter_context(open_bed("demo", runtime))
        say(f"   its log: {bed.containerd.log}")
        demo = Demo(bed)
        demo.container()
        asyncio.run(demo.pod())
        demo.nothing_left()
        with step("stop containerd"):
            stack.close()
    with step("compare with before containerd"):
        before.assert_clean()
    say(f"   none left of: {', '.join(before.judged)}")
    if unjudged := [kind for kind in inventory.SOURCES if kind not in before.judged]:
        say(f"   not looked at, for another bed is in use: {', '.join(unjudged)}")


def main() -> int:
    """Parse, run, and turn every failure into a line; the result is the exit status."""
    parser = argparse.ArgumentParser(prog="tests.demo", description=__doc__.partition("\n")[0])
    parser.add_argument("--runtime", choices=sorted(RUNTIMES), default=KATA.name)
    runtime = RUNTIMES[parser.parse_args().runtime]
    if missing := missing_here():
        print(f"demo: {missing}", file=sys.stderr)
        return 2
    began = time.monotonic()
    try:
        run(runtime)
    except TimeoutError:
        print("demo failed: a call of CRI did not return within its deadline", file=sys.stderr)
        return 1
    except GRPCError as error:
        print(f"demo failed: CRI answered {error.status.name}: {error.message}", file=sys.stderr)
        return 1
    except (DemoError, *FAILURES) as error:
        print(f"demo failed: {error}", file=sys.stderr)
        return 1
    say(f"\ndemo: all is well ({time.monotonic() - began:.1f} s)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
