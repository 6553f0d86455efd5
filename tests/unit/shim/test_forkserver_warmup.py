"""Contract: what a daemon makes on first use is there before the fork, and the fork server has nothing else of it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from shim.forkserver.warmup import ANYIO_NAMES

_PROJECT = Path(__file__).resolve().parents[3]
_ROOMS = ("agent_client", "config", "hypervisor", "protos", "sandbox", "shim", "ttrpc")
# In an interpreter of its own, as the server's: what it is after its imports, and after the warming up.
_SCRIPT = """\
import json, logging, os, re, sys, threading
sys.path[:0] = {path!r}
from shim.forkserver import main
main._preload()
from shim.forkserver.warmup import warm_up
import anyio, msgspec
from protos import rich
from protos.gen.containerd.task.v2 import CreateTaskRequest
fds = sorted(os.listdir("/proc/self/fd"))
modules = set(sys.modules)
warm_up()
levels = [logging.getLogger(name).level for name in ("", "asyncio")]
table = vars(rich.table_of(CreateTaskRequest))
print(json.dumps(dict(
    same_fds=fds == sorted(os.listdir("/proc/self/fd")),
    threads=threading.active_count(),
    modules=sorted(set(sys.modules) - modules),
    levels=levels,
    table=sorted(part for part in table if part in ("_shared", "_containers", "_readers", "_writers")),
    anyio=sorted(vars(anyio)),
    grpclib_server="grpclib.server" in sys.modules,
)))
"""


@pytest.fixture(scope="module")
def told() -> dict[str, object]:
    """What such an interpreter tells of itself."""
    script = _SCRIPT.format(path=[str(_PROJECT), *(entry for entry in sys.path if "site-packages" in entry)])
    done = subprocess.run([sys.executable, "-I", "-S", "-OO", "-c", script], capture_output=True, text=True)
    assert not done.returncode, done.stderr
    found: dict[str, object] = json.loads(done.stdout)
    return found


def test_no_thread_and_no_descriptor_is_there_that_a_daemon_would_inherit(told: dict[str, object]) -> None:
    assert (told["same_fds"], told["threads"]) == (True, 1)


def test_next_to_nothing_is_imported_for_it(told: dict[str, object]) -> None:
    assert set(told["modules"]) <= {"_sha256", "_sha2", "hashlib"}  # type: ignore[call-overload]


def test_what_the_libraries_drag_in_stays_out(told: dict[str, object]) -> None:
    assert told["grpclib_server"] is False


def test_messages_are_ready_to_be_read_and_written(told: dict[str, object]) -> None:
    assert told["table"] == ["_containers", "_readers", "_shared", "_writers"]


def test_the_log_has_the_levels_of_a_daemon(told: dict[str, object]) -> None:
    assert told["levels"] == [20, 30]


def test_all_that_the_daemon_takes_of_anyio_has_been_found(told: dict[str, object]) -> None:
    texts = [path.read_text() for room in _ROOMS for path in (_PROJECT / room).rglob("*.py")]
    used = {name for text in texts for name in re.findall(r"\banyio\.([a-zA-Z]\w*)", text)}
    modules = {"abc", "lowlevel", "run", "streams"}

    assert used - modules <= set(ANYIO_NAMES) <= set(told["anyio"])  # type: ignore[call-overload]
