"""One guest for all tests of this directory, with hooks that tell what they were given."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.harness import live_guest as live

HOOKS = f"{live.SHARED}/hooks"
#: Run in the guest itself: keeps what came on standard input, and fails for the container that asks for it.
HOOK = f"""#!/usr/bin/python3 -ISB
import json, os, sys
state = json.load(sys.stdin)
config = json.load(open(state["bundle"] + "/config.json"))
state["arguments"], state["args"] = sys.argv[1:], config["process"]["args"]
if state["annotations"].get("hook.fail") == sys.argv[1]:
    sys.exit("told to fail")
if "hook.keep" in state["annotations"]:
    with open("{live.ROOTFS}/tmp/" + state["annotations"]["hook.keep"], "a") as file:
        file.write(json.dumps(state) + "\\n")
""".encode()


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """One event loop for the guest and its tests."""
    return "asyncio"


@pytest.fixture(scope="package")
def scratch() -> Iterator[Path]:
    """A directory whose path leaves room for the names of sockets."""
    path = Path(tempfile.mkdtemp(prefix="rpc-"))
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="package")
async def guest(scratch: Path, anyio_backend: str) -> AsyncIterator[live.Live]:
    """A running guest with a container."""
    kinds = ("prestart", "poststart", "poststop")
    files = {f"{HOOKS}/{kind}/tell": HOOK for kind in kinds}
    async with live.running(scratch, guest_hook_path=HOOKS, files=files) as guest:
        yield guest
