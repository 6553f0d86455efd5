"""Which benchmarks there are."""

from __future__ import annotations

import importlib.util
import inspect

import pytest

from bench.catalogue import BY_NAME, CATALOGUE, belongs_to


@pytest.mark.parametrize("benchmark", CATALOGUE, ids=lambda one: one.name)
def test_each_has_a_module_with_what_it_is_called_with(benchmark):
    module = importlib.import_module(f"bench.{benchmark.module}")

    assert inspect.iscoroutinefunction(module.run)
    assert list(inspect.signature(module.run).parameters) == ["context", *(["pair"] if benchmark.pair else [])]


def test_names_are_not_beginnings_of_each_other():
    assert len(BY_NAME) == len(CATALOGUE)
    assert not [one for one in BY_NAME for other in BY_NAME if one.startswith(f"{other}-")]


@pytest.mark.parametrize(
    ("outcome", "name"), [("state", "state"), ("files-random", "files"), ("filesystem", ""), ("agent-rpc", "agent-rpc")]
)
def test_an_outcome_belongs_to_the_benchmark_whose_name_it_has_or_begins_with(outcome, name):
    assert belongs_to(outcome) == name
