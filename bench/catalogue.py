"""The benchmarks there are, in the order they run. A module is loaded when its benchmark runs."""

from __future__ import annotations

import importlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from bench.outcome import Outcome
from bench.subjects import Context, running_pair

Result = Outcome | Sequence[Outcome]


@dataclass(frozen=True)
class Benchmark:
    """A benchmark: `run` of `bench.<module>`, which gets the context and, if `pair`, a running container of each shim.

    After `limit` seconds it counts as failed.
    """

    name: str
    module: str
    pair: bool = False
    limit: float = 240.0

    async def run(self, context: Context) -> list[Outcome]:
        """All its tables; raises whatever it fails with."""
        function: Callable[..., Awaitable[Result]] = importlib.import_module(f"bench.{self.module}").run
        if not self.pair:
            return _listed(await function(context))
        with running_pair(context.bed) as pair:
            return _listed(await function(context, pair))


def _listed(result: Result) -> list[Outcome]:
    return [result] if isinstance(result, Outcome) else list(result)


CATALOGUE = (
    Benchmark("start", "start_latency"),
    Benchmark("create", "cold_create"),
    Benchmark("template", "template_start"),
    Benchmark("cache", "cache_start"),
    Benchmark("parallel", "parallel_starts", limit=1200.0),
    Benchmark("cri", "cri", limit=600.0),
    Benchmark("network", "network"),
    Benchmark("files", "files"),
    Benchmark("state", "state_latency", pair=True),
    Benchmark("exec", "exec_latency", pair=True),
    Benchmark("memory", "memory", pair=True),
    Benchmark("pods", "pods_memory", limit=900.0),
    Benchmark("agent-rpc", "agent_rpc"),
    Benchmark("agent-stdout", "agent_stdout"),
    Benchmark("agent-exec", "agent_exec"),
    Benchmark("agent-memory", "agent_memory"),
)

BY_NAME: dict[str, Benchmark] = {benchmark.name: benchmark for benchmark in CATALOGUE}


def belongs_to(outcome: str) -> str:
    """The benchmark that an outcome is of, whose name it has or begins with; empty if there is none."""
    return next((name for name in BY_NAME if outcome == name or outcome.startswith(f"{name}-")), "")


def place(outcome: str) -> tuple[int, str]:
    """Where an outcome of that name stands among all: last if its benchmark is gone."""
    names = list(BY_NAME)
    name = belongs_to(outcome)
    return (names.index(name) if name else len(names)), outcome
