"""Packet filters: which program is run, with what, and what its failures mean."""

from __future__ import annotations

import pytest

from guest.agent import iptables
from guest.agent.errors import InternalError, InvalidArgumentError

pytestmark = pytest.mark.anyio


@pytest.fixture
def program(tmp_path):
    """Puts a shell script under the name of a program."""

    def make(name: str, script: str) -> str:
        path = tmp_path / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        return str(tmp_path)

    return make


@pytest.mark.parametrize(("is_ipv6", "name"), [(False, "iptables-save"), (True, "ip6tables-save")])
async def test_what_is_saved_is_what_the_program_prints(reaper, program, is_ipv6, name):
    directory = program(name, "printf '*filter\\nCOMMIT\\n'")

    assert await iptables.save(is_ipv6, reaper, directory) == b"*filter\nCOMMIT\n"


@pytest.mark.parametrize(("is_ipv6", "name"), [(False, "iptables-restore"), (True, "ip6tables-restore")])
async def test_what_is_restored_is_the_program_s_input(reaper, program, is_ipv6, name):
    directory = program(name, 'echo "$@"; cat')

    assert await iptables.restore(is_ipv6, b"*nat\nCOMMIT\n", reaper, directory) == b"--wait=5\n*nat\nCOMMIT\n"


async def test_rules_that_can_t_be_read_are_the_host_s_fault(reaper, program):
    directory = program("iptables-restore", "echo 'line 3 failed' >&2; exit 2")

    with pytest.raises(InvalidArgumentError, match="line 3 failed"):
        await iptables.restore(False, b"?", reaper, directory)


async def test_other_failures_carry_the_program_s_words(reaper, program):
    directory = program("iptables-restore", "echo 'no such table' >&2; exit 1")
    program("iptables-save", "exit 4")

    with pytest.raises(InternalError, match="iptables-restore: no such table"):
        await iptables.restore(False, b"", reaper, directory)
    with pytest.raises(InternalError, match="iptables-save: it ended with status 4"):
        await iptables.save(False, reaper, directory)


async def test_more_rules_than_an_answer_holds_are_an_error(reaper, program):
    directory = program("iptables-save", f"head -c {iptables.LIMIT + 1} /dev/zero")

    with pytest.raises(InternalError, match="bytes of rules"):
        await iptables.save(False, reaper, directory)
