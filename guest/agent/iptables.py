"""GetIPTables and SetIPTables: the guest's packet filters in the words of iptables-save(8) and iptables-restore(8).

The programs are those of nf_tables; the kernel loads what their rules need by itself.
"""

from __future__ import annotations

from guest.agent import capture
from guest.agent.errors import InternalError, InvalidArgumentError
from guest.agent.reaper import Reaper

TIMEOUT = 30.0
#: Seconds for which iptables waits for another one to be done, as Kata's agent has it.
WAIT_SECONDS = 5
#: The answer must fit a ttrpc frame (4 MiB).
LIMIT = 3 << 20
DIRECTORY = "/usr/sbin"
#: iptables' exit status for rules that it can't parse (PARAMETER_PROBLEM).
_BAD_RULES = 2


async def save(is_ipv6: bool, reaper: Reaper, directory: str = DIRECTORY) -> bytes:
    """All tables, as iptables-save prints them; raises `InternalError`."""
    program = _program(is_ipv6, "save", directory)
    outcome = await capture.run([program], reaper, TIMEOUT, limit=LIMIT + 1)
    if outcome.status:
        raise InternalError(f"{program}: {outcome.reason()}")
    if len(outcome.stdout) > LIMIT:
        raise InternalError(f"{program}: more than {LIMIT} bytes of rules")
    return outcome.stdout


async def restore(is_ipv6: bool, data: bytes, reaper: Reaper, directory: str = DIRECTORY) -> bytes:
    """Replace the tables in `data` whole; what iptables-restore prints.

    Raises `InvalidArgumentError` for rules that can't be read, else `InternalError`; no table is changed then.
    """
    program = _program(is_ipv6, "restore", directory)
    outcome = await capture.run([program, f"--wait={WAIT_SECONDS}"], reaper, TIMEOUT, stdin=data, limit=LIMIT)
    if outcome.status == _BAD_RULES:
        raise InvalidArgumentError(f"{program}: {outcome.reason()}")
    if outcome.status:
        raise InternalError(f"{program}: {outcome.reason()}")
    return outcome.stdout


def _program(is_ipv6: bool, verb: str, directory: str) -> str:
    return f"{directory}/{'ip6tables' if is_ipv6 else 'iptables'}-{verb}"
