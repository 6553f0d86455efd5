"""Hooks that crun runs in the guest: their end, their words, and a failure told from a program that ended at once."""

from __future__ import annotations

import asyncio
import os
import subprocess
from pathlib import Path

import pytest

from guest.agent.errors import DeadlineError, InternalError
from guest.agent.inner_hooks import LIMIT, InnerHooks
from guest.agent.reaper import name_of

pytestmark = pytest.mark.anyio


def config(**hook: object) -> dict[str, object]:
    """A container's config with one startContainer hook."""
    return {"annotations": {"mine": "kept"}, "hooks": {"createContainer": [], "startContainer": [hook]}}


@pytest.fixture
async def made(tmp_path: Path):
    """Makes the hooks of a container, as the agent does; the FIFO's path is in the config that crun gets."""
    every: list[InnerHooks] = []

    def make(**hook: object) -> tuple[InnerHooks, str]:
        directory = tmp_path / str(len(every))
        directory.mkdir()
        inner = InnerHooks(str(directory), config(**hook))
        every.append(inner)
        annotations = inner.annotate(config())["annotations"]
        assert annotations["mine"] == "kept"
        return inner, annotations["run.oci.hooks.stderr"]

    yield make
    for inner in every:
        inner.close()
        inner.close()


def init(fifo: str, script: str) -> subprocess.Popen[bytes]:
    """A waiting init: a shell that holds the FIFO as its standard error until it becomes the program, or ends."""
    return subprocess.Popen(["/bin/sh", "-c", f"exec 2>>{fifo}; echo ready; read go; {script}"], stdin=-1, stdout=-1)


async def let_go(inner: InnerHooks, waiting: subprocess.Popen[bytes], reaper: object) -> None:
    """Start the init, when it waits, and wait for its hooks as the agent does."""
    assert waiting.stdout is not None
    assert waiting.stdin is not None
    assert await asyncio.to_thread(waiting.stdout.readline) == b"ready\n"
    inner.follow(waiting.pid, reaper)  # type: ignore[arg-type]
    waiting.stdin.write(b"\n")
    waiting.stdin.close()
    waiting.stdout.close()
    # The reaper waits for it.
    waiting.returncode = 0
    await inner.finished()


async def test_an_init_that_becomes_the_program_has_had_good_hooks(made, reaper):
    inner, fifo = made()
    await let_go(inner, init(fifo, "echo fine >&2; exec sleep 0.2 2>/dev/null"), reaper)


async def test_a_program_that_ends_at_once_with_an_error_is_no_failed_hook(made, reaper):
    inner, fifo = made()
    await let_go(inner, init(fifo, "echo a warning >&2; exec false 2>/dev/null"), reaper)


async def test_an_init_that_ends_as_itself_has_had_a_failed_hook(made, reaper):
    inner, fifo = made()
    with pytest.raises(InternalError, match=r"a startContainer hook failed: no luck today$"):
        await let_go(inner, init(fifo, "echo 'no luck today' >&2; exit 1"), reaper)


async def test_a_silent_failure_is_one_too(made, reaper):
    inner, fifo = made()
    with pytest.raises(InternalError, match=r"a startContainer hook failed$"):
        await let_go(inner, init(fifo, "exit 1"), reaper)


async def test_words_are_bounded(made, reaper):
    inner, fifo = made()
    with pytest.raises(InternalError) as caught:
        await let_go(inner, init(fifo, "yes | head -c 300000 >&2; exit 1"), reaper)
    assert len(str(caught.value)) < LIMIT + 100


async def test_hooks_that_do_not_end_have_a_deadline(made, reaper):
    inner, fifo = made(timeout=1)
    waiting = init(fifo, "exec sleep 1000")
    with pytest.raises(DeadlineError, match="within 1 s"):
        await let_go(inner, waiting, reaper)
    os.kill(waiting.pid, 9)


async def test_a_failed_create_is_explained_by_what_the_hooks_said(made):
    inner, fifo = made()
    Path(fifo).write_text("no\nluck")
    error = inner.explain(InternalError("crun create: hook failed"))
    assert str(error) == "crun create: hook failed: no luck"


def test_nobody_has_no_name():
    assert name_of(2**22 + 1) == ""
