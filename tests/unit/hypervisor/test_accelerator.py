"""KVM only where it will work."""

from __future__ import annotations

from pathlib import Path

import pytest

from hypervisor.accelerator import Accelerator, KvmFacts, cpu_flags, decide, resolve, try_kvm
from hypervisor.errors import HypervisorError

INTEL = frozenset({"fpu", "vmx"})
AMD = frozenset({"fpu", "svm"})
NONE = frozenset({"fpu"})
BUSY = "/dev/kvm can't create a VM (Device or resource busy)"


@pytest.mark.parametrize(
    ("wanted", "facts", "name", "reason"),
    [
        ("auto", KvmFacts("x86_64", INTEL, None), "kvm", "a VM can be created on /dev/kvm"),
        ("auto", KvmFacts("x86_64", AMD, None), "kvm", "a VM can be created on /dev/kvm"),
        ("auto", KvmFacts("aarch64", frozenset(), None), "kvm", "a VM can be created on /dev/kvm"),
        ("auto", KvmFacts("x86_64", NONE, None), "tcg", "no KVM: the CPU shows no virtualisation extension"),
        ("auto", KvmFacts("x86_64", INTEL, BUSY), "tcg", f"no KVM: {BUSY}"),
        ("kvm", KvmFacts("x86_64", INTEL, None), "kvm", "a VM can be created"),
        ("tcg", KvmFacts("x86_64", INTEL, None), "tcg", "configured"),
    ],
)
def test_the_choice_follows_the_facts(wanted: str, facts: KvmFacts, name: str, reason: str):
    chosen = decide(wanted, facts)
    assert (chosen.name, chosen.reason[: len(reason)]) == (name, reason)


@pytest.mark.parametrize("facts", [KvmFacts("x86_64", NONE, None), KvmFacts("x86_64", INTEL, BUSY)])
def test_a_forced_kvm_that_will_not_work_says_what_to_do(facts: KvmFacts):
    with pytest.raises(HypervisorError, match=r"KVM can't be used: .*; repair that, or set accelerator"):
        decide("kvm", facts)


def test_an_unknown_accelerator_is_refused():
    with pytest.raises(HypervisorError, match="accelerator 'xen' is unknown: use auto, kvm or tcg"):
        resolve("xen")


def test_tcg_needs_no_probe():
    assert resolve("tcg") == Accelerator("tcg", "configured")


def test_this_host_gets_one_that_exists():
    assert resolve().name in ("kvm", "tcg")


def test_flags_are_those_of_the_first_processor():
    assert cpu_flags("processor\t: 0\nflags\t\t: fpu vmx\n\nprocessor\t: 1\nflags\t\t: fpu\n") == INTEL
    assert cpu_flags("Features : fp asimd\n") == frozenset()


def test_a_device_that_is_missing_or_is_no_kvm_is_told(tmp_path: Path):
    assert try_kvm(tmp_path / "kvm") == f"{tmp_path / 'kvm'} can't be opened (No such file or directory)"
    assert "can't create a VM (Inappropriate ioctl for device)" in (try_kvm(Path("/dev/null")) or "")
