"""Contract: what is handed over is complete and well-formed, or it is nothing; its last owner's end is the VM's."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from hypervisor.errors import HypervisorError
from hypervisor.handover.parcel import DESCRIPTORS, Facts, Parcel

FACTS = Facts(7, 99, 6, 1, 512, "serial:///run/x/agent", "/run/x/agent", "console\n", "", "cold")


def pipes(count: int) -> list[int]:
    return [os.open(os.devnull, os.O_RDONLY) for _ in range(count)]


def test_facts_survive_the_way():
    assert Facts.decode(FACTS.encode()) == FACTS
    assert FACTS.encode().count(b"\n") == 1


@pytest.mark.parametrize(
    "text", [b"", b"[]", b"{}", b"null", FACTS.encode().replace(b"99", b'"99"'), FACTS.encode()[:-3], b"\xff{"]
)
def test_facts_that_make_no_sense_are_refused_in_one_line(text: bytes):
    with pytest.raises(HypervisorError, match="make no sense") as caught:
        Facts.decode(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("count", [0, 5, 7])
def test_a_parcel_with_too_few_or_too_many_descriptors_is_refused_and_they_are_closed(count: int):
    fds = pipes(count)
    with pytest.raises(HypervisorError, match="descriptors"):
        Parcel.received(FACTS, fds)
    for fd in fds:
        with pytest.raises(OSError):
            os.fstat(fd)


def test_closing_leaves_what_was_taken():
    fds = pipes(len(DESCRIPTORS))
    parcel = Parcel.received(FACTS, fds)
    console = parcel.take("console")
    parcel.close()
    parcel.close()
    os.close(console)
    with pytest.raises(OSError):
        os.fstat(fds[0])
    parcel.kill()


def test_the_agents_socket_moves_to_its_new_owner(tmp_path: Path):
    (tmp_path / "old").touch()
    home = tmp_path / "pod"
    home.mkdir()
    parcel = Parcel(replace(FACTS, agent_socket=str(tmp_path / "old")), {})
    parcel.move_agent(home)
    assert parcel.facts.agent_url == f"serial://{home}/agent"
    assert (home / "agent").exists()


def test_a_socket_that_is_gone_is_an_error_that_says_so(tmp_path: Path):
    with pytest.raises(HypervisorError, match="agent's socket"):
        Parcel(replace(FACTS, agent_socket=str(tmp_path / "old")), {}).move_agent(tmp_path)
