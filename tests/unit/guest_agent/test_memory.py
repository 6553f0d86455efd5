"""The memory agent: what it makes of the kernel's files, when it acts, and that it leaves a busy guest alone."""

from __future__ import annotations

import asyncio

import pytest

from guest.agent.errors import FailedPreconditionError, InvalidArgumentError
from guest.agent.memory import compaction, lru, schedule
from guest.agent.memory.compaction import Compaction
from guest.agent.memory.pressure import Pressure, stalled
from guest.agent.memory.reclaim import Reclaim
from guest.agent.memory.settings import NEVER, CompactionSettings, ReclaimSettings
from guest.agent.work import Work
from protos.lean.gen import grpc as pb

pytestmark = pytest.mark.anyio

GENERATIONS = """memcg     1 /
 node     0
          0     101932         12       3456
          1     101932          0          0
memcg    45 /kata/c1
 node     0
          3      90000        100       2000
          4      60000          0        500
          5      30000          0          0
          6      10000          0          0
memcg    46 /kata/c2
 node     0
          0        100          0          9
          1        100          0          0
memcg     0 bad line with words
"""


class FakeLru:
    """The kernel's file, and what was written to it: aging makes a generation, eviction takes the oldest."""

    def __init__(self, nodes: list[lru.Node]) -> None:
        self._nodes = nodes
        self.commands: list[str] = []
        self.enabled = False

    def enable(self) -> None:
        self.enabled = True

    def nodes(self, below: str) -> list[lru.Node]:
        return [node for node in self._nodes if node.path.startswith(below)]

    def run(self, command: str) -> None:
        self.commands.append(command)
        sign, memcg, *_ = command.split()
        node = next(node for node in self._nodes if node.memcg == int(memcg))
        if sign == "+":
            node.youngest += 1
        else:
            node.oldest += 1


def node(memcg: int = 45, oldest: int = 0, youngest: int = 3) -> lru.Node:
    result = lru.Node(memcg, f"/kata/c{memcg}", 0)
    result.oldest, result.youngest, result.oldest_pages = oldest, youngest, (10, 100)
    return result


class TestLru:
    def test_generations_are_read_by_cgroup_and_node(self):
        nodes = {one.path: one for one in lru.parse(GENERATIONS)}

        one = nodes["/kata/c1"]
        assert (one.memcg, one.node, one.oldest, one.youngest, one.oldest_pages) == (45, 0, 3, 6, (100, 2000))
        assert len(nodes) == 3

    def test_commands_are_the_kernel_s(self):
        one = node(45, 3, 6)

        assert lru.aging(one, True) == "+ 45 0 6 1 1"
        assert lru.eviction(one, 50) == "- 45 0 3 50"

    @pytest.mark.parametrize(("oldest", "youngest", "evictable"), [(0, 1, False), (0, 2, True), (5, 8, True)])
    def test_the_youngest_generations_stay(self, oldest, youngest, evictable):
        assert lru.is_evictable(node(1, oldest, youngest)) is evictable

    def test_a_kernel_without_it_is_told(self, tmp_path):
        with pytest.raises(FailedPreconditionError, match="no multi-generational LRU"):
            lru.Lru(str(tmp_path)).enable()


class TestPressure:
    TEXT = "some avg10=0.00 avg60=0.00 avg300=0.00 total={}\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=1\n"

    def test_it_is_the_share_of_time_since_the_last_question(self, tmp_path):
        now = [100.0]
        path = tmp_path / "memory.pressure"
        path.write_text(self.TEXT.format(1_000_000))
        pressure = Pressure(str(path), lambda: now[0])

        now[0] += 10
        path.write_text(self.TEXT.format(1_500_000))

        assert pressure.percent() == 5.0
        now[0] += 10
        assert pressure.percent() == 0.0

    def test_a_kernel_that_does_not_tell_presses_nobody(self, tmp_path):
        assert Pressure(str(tmp_path / "none")).percent() == 0.0
        assert stalled("some avg10=x total=\nnonsense\n") == 0


class TestReclaim:
    async def test_pages_are_evicted_after_they_were_aged_often_enough(self, tmp_path):
        settings = ReclaimSettings()
        settings.eviction_run_aging_count_min = 2
        fake = FakeLru([node()])
        reclaim = Reclaim(settings, fake, str(tmp_path))

        first = await reclaim.turn()
        assert (first, [command[0] for command in fake.commands]) == (0, ["+"])
        second = await reclaim.turn()

        assert second == 100 * 4
        assert fake.commands[1:] == ["+ 45 0 4 0 1", "- 45 0 0 0", "- 45 0 1 0", "- 45 0 2 0", "- 45 0 3 0"]

    async def test_with_swap_anonymous_pages_go_as_well(self, tmp_path):
        settings = ReclaimSettings()
        settings.swap, settings.eviction_run_aging_count_min = True, 0
        fake = FakeLru([node(45, 0, 1)])

        assert await Reclaim(settings, fake, str(tmp_path)).turn() == 110
        assert fake.commands == ["+ 45 0 1 1 1", "- 45 0 0 50"]

    async def test_a_cgroup_under_pressure_is_left_alone(self, tmp_path):
        (tmp_path / "kata/c45").mkdir(parents=True)
        path = tmp_path / "kata/c45/memory.pressure"
        path.write_text("some total=0\n")
        fake = FakeLru([node()])
        reclaim = Reclaim(ReclaimSettings(), fake, str(tmp_path))
        await reclaim.turn()

        path.write_text("some total=99999999999\n")
        await reclaim.turn()

        assert len(fake.commands) == 1

    async def test_only_containers_are_touched(self, tmp_path):
        other = node(1)
        other.path = "/init"
        fake = FakeLru([other])

        await Reclaim(ReclaimSettings(), fake, str(tmp_path)).turn()

        assert fake.commands == []

    async def test_an_eviction_that_changes_nothing_is_not_repeated_for_ever(self, tmp_path):
        settings = ReclaimSettings()
        settings.eviction_run_aging_count_min = 1
        fake = FakeLru([node()])
        fake.run = fake.commands.append

        await Reclaim(settings, fake, str(tmp_path)).turn()

        assert len(fake.commands) == 2


PAGE_TYPES = """Page block order: 9
Free pages count per migrate type at order       0      1      2      3
Node    0, zone      DMA, type    Unmovable      9      9      9      9
Node    0, zone   Normal, type      Movable      4      2    >100      7

Number of blocks type     Unmovable      Movable
Node 0, zone      DMA            1            7
"""


class TestCompaction:
    def test_free_pieces_are_counted_below_the_order(self):
        assert compaction.movable_pieces(PAGE_TYPES, 2) == 4 + 2 * 2
        assert compaction.movable_pieces(PAGE_TYPES, 9) == 4 + 4 + 400 + 56

    def test_free_memory_is_read(self):
        assert compaction.free_kib("MemTotal: 9 kB\nMemFree:  77 kB\n") == 77

    @pytest.fixture
    def proc(self, tmp_path):
        (tmp_path / "pressure").mkdir()
        (tmp_path / "pressure/memory").write_text("some total=0\n")
        (tmp_path / "pagetypeinfo").write_text(PAGE_TYPES)
        (tmp_path / "meminfo").write_text("MemFree: 77 kB\n")
        return tmp_path

    @pytest.fixture
    def made(self, proc, reaper, monkeypatch):
        """Whose kernel's work is a file that appears."""
        monkeypatch.setattr(compaction, "SHELL", ("/bin/sh", "-c", f"echo x >> {proc}/done"))
        settings = CompactionSettings()
        return settings, Compaction(settings, reaper, str(proc))

    async def test_pieces_beyond_the_threshold_are_compacted_once(self, made, proc):
        settings, job = made
        settings.compact_threshold = 100

        assert [await job.turn(), await job.turn()] == [True, False]
        assert (proc / "done").read_text() == "x\n"

    async def test_few_pieces_are_left_until_it_is_forced(self, made):
        settings, job = made
        settings.compact_threshold, settings.compact_force_times = 10_000, 2

        assert [await job.turn() for _ in range(4)] == [False, False, True, False]

    async def test_never_is_never(self, made):
        settings, job = made
        settings.compact_threshold = 10_000
        assert settings.compact_force_times == NEVER

        assert not any([await job.turn() for _ in range(5)])

    async def test_a_guest_under_pressure_is_left_alone(self, made, proc):
        settings, job = made
        settings.compact_threshold = 0
        (proc / "pressure/memory").write_text("some total=99999999999\n")

        assert not await job.turn()

    async def test_work_that_presses_is_given_up(self, made, proc, monkeypatch):
        settings, job = made
        settings.compact_threshold = 0
        script = f"echo 'some total=99999999999' > {proc}/pressure/memory; exec sleep 1000"
        monkeypatch.setattr(compaction, "SHELL", ("/bin/sh", "-c", script))
        monkeypatch.setattr(compaction, "WATCH_SECONDS", 0.05)

        assert await asyncio.wait_for(job.turn(), 20)


class TestSettings:
    @pytest.fixture
    async def memory(self, layout, reaper, monkeypatch):
        fake = FakeLru([])
        monkeypatch.setattr(schedule, "Lru", lambda sys: fake)
        async with asyncio.TaskGroup() as group:
            work = Work(group)
            result = schedule.MemoryAgent(layout, reaper, work)
            result.fake = fake
            result.work = work
            yield result
            work.end_background()

    async def test_both_jobs_wait_to_be_enabled(self, memory):
        memory.set_reclaim(pb.MemAgentMemcgConfig(period_secs=1))
        memory.set_compaction(pb.MemAgentCompactConfig(period_secs=1))

        assert not memory.work._background
        assert not memory.fake.enabled

    async def test_an_enabled_job_runs_until_it_is_disabled(self, memory):
        memory.set_reclaim(pb.MemAgentMemcgConfig(disabled=False, swappiness_max=9))
        assert len(memory.work._background) == 1
        assert memory.fake.enabled

        memory.set_reclaim(pb.MemAgentMemcgConfig(disabled=True))

        async with asyncio.timeout(20):
            while memory.work._background:
                await asyncio.sleep(0)
        assert memory.reclaim.swappiness_max == 9

    async def test_what_is_not_named_stays(self, memory):
        memory.set_compaction(pb.MemAgentCompactConfig(compact_order=4))

        assert (memory.compaction.compact_order, memory.compaction.compact_psi_percent_limit) == (4, 5)

    @pytest.mark.parametrize(
        "message",
        [
            pb.MemAgentMemcgConfig(period_secs=0),
            pb.MemAgentMemcgConfig(swappiness_max=201),
            pb.MemAgentMemcgConfig(period_psi_percent_limit=101),
            pb.MemAgentCompactConfig(compact_order=11),
            pb.MemAgentCompactConfig(compact_sec_max=-1),
        ],
    )
    async def test_values_out_of_bounds_are_refused_and_nothing_is_changed(self, memory, message):
        message.disabled = False

        with pytest.raises(InvalidArgumentError):
            memory.set_reclaim(message) if isinstance(message, pb.MemAgentMemcgConfig) else memory.set_compaction(
                message
            )

        assert memory.reclaim.disabled
        assert memory.compaction.disabled

    async def test_a_turn_that_fails_is_tried_again(self, layout, reaper, caplog):
        settings, turns = ReclaimSettings(), []
        settings.disabled, settings.period_secs = False, 0.01
        done = asyncio.Event()

        async def turn() -> None:
            turns.append(1)
            if len(turns) == 2:
                done.set()
            raise OSError("no such file")

        async with asyncio.TaskGroup() as group:
            work = Work(group)
            schedule.Job("reclaim", settings, turn, work).reschedule()
            await asyncio.wait_for(done.wait(), 20)
            work.end_background()

        assert "memory: reclaim: no such file" in caplog.text
