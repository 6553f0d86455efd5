"""Contract: the kernel of a guest that boots emulated is told the counter's true speed, and no other kernel is."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest

from hypervisor.clock import agreed, clocked, tsc_khz
from hypervisor.vm import SavedState
from tests.harness.waiting import eventually
from tests.unit.hypervisor.test_command_line import SPEC

TCG = replace(SPEC, accelerator="tcg", kernel_params=("agent.log=debug",))
MS = 1_000_000


def test_an_emulated_kernel_is_told_and_the_configuration_has_the_last_word() -> None:
    assert clocked(TCG, lambda: 2_300_000).kernel_params == ("tsc_early_khz=2300000", "agent.log=debug")


def test_a_kernel_is_told_nothing_where_the_speed_is_not_known() -> None:
    assert clocked(TCG, lambda: None) == TCG


@pytest.mark.parametrize("other", [replace(TCG, accelerator="kvm"), replace(TCG, saved=SavedState(3, 4, False))])
def test_a_guest_that_knows_already_costs_no_measurement(other) -> None:
    def measure() -> int:
        raise AssertionError("measured")

    assert clocked(other, measure) == other


@pytest.mark.parametrize(
    ("counts", "khz"),
    [
        ((0, 9_200_000, 18_400_000), 2_300_000),
        ((0, 9_200_000, 18_400_800), 2_300_100),
        # Preempted, of another CPU's counter, or standing still.
        ((0, 9_200_000, 18_420_000), None),
        ((9_000_000_000, 9_200_000, 18_400_000), None),
        ((7, 7, 7), None),
    ],
)
def test_a_speed_is_believed_that_is_even(counts, khz) -> None:
    assert agreed([(4 * MS * number, count) for number, count in enumerate(counts)]) == khz


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="reads the counter of x86-64")
def test_this_hosts_speed_is_measured_the_same_twice() -> None:
    # A host that is too busy lets nobody measure.
    first, second = (eventually(tsc_khz, "the counter's speed can be had") for _ in range(2))
    assert abs(first - second) < first / 1000
    assert 100_000 < first < 20_000_000
