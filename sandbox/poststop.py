"""`poststop` hooks of containers whose daemon is killed: `delete` runs them, from what is in the run directory.

    poststop/<container id>   {"bundle": ..., "state": ..., "hooks": [{"command": [...], "environment": {...}}, ...]}

The file is there from before the container's first hook until its `poststop` hooks are run by somebody, who removes it
first: so each runs once at most, whoever dies. On the path of `delete`: standard library only.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

from sandbox.rundir import HOOKS

#: Seconds for all of them together: containerd gives `delete` 5, and its own work may take 3.4 of those.
TIMEOUT = 1.5


def note(run_dir: Path, container_id: str, document: dict[str, Any]) -> None:
    """Leave a container's hooks to whoever outlives the daemon; raises `OSError`."""
    place = run_dir / HOOKS / container_id
    place.parent.mkdir(mode=0o700, exist_ok=True)
    temporary = place.with_name(f".{container_id}.new")
    temporary.write_text(json.dumps(document))
    temporary.replace(place)


def forget(run_dir: Path, container_id: str) -> None:
    """The daemon runs them itself, now; idempotent."""
    (run_dir / HOOKS / container_id).unlink(missing_ok=True)


def take(run_dir: Path) -> list[dict[str, Any]]:
    """What is left of the hooks, by container; nobody else gets it any more. Nothing if the directory is gone."""
    found = []
    for place in sorted((run_dir / HOOKS).glob("[!.]*")):
        try:
            text = place.read_bytes()
            place.unlink()
            document = json.loads(text)
        except (OSError, ValueError):
            continue
        if isinstance(document, dict) and {"hooks", "state", "bundle"} <= document.keys():
            found.append(document)
    return found


def run(documents: Sequence[dict[str, Any]]) -> list[str]:
    """Run hooks of ended containers: those of one in their order, the containers side by side. Returns what failed.

    What has not ended after `TIMEOUT` seconds is killed with all it started.
    """
    deadline = time.monotonic() + TIMEOUT
    problems: list[str] = []
    for turn in zip_longest(*(_hooks(document) for document in documents)):
        started = [(hook, child) for hook in turn if hook and (child := _start(hook, problems))]
        for hook, child in started:
            problem = _finish(child, deadline)
            if problem:
                problems.append(f"poststop hook {hook['command'][0]} {problem}")
        if time.monotonic() >= deadline:
            break
    return problems


def _hooks(document: dict[str, Any]) -> list[dict[str, Any]]:
    return [{**hook, "state": document["state"], "bundle": document["bundle"]} for hook in document["hooks"]]


def _start(hook: dict[str, Any], problems: list[str]) -> subprocess.Popen[bytes] | None:
    stdin = os.memfd_create("state")
    try:
        os.write(stdin, json.dumps(hook["state"]).encode())
        os.lseek(stdin, 0, os.SEEK_SET)
        return subprocess.Popen(
            hook["command"],
            stdin=stdin,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            # containerd may have removed the bundle already.
            cwd=hook["bundle"] if os.path.isdir(hook["bundle"]) else "/",
            env=hook["environment"],
            start_new_session=True,
        )
    except (OSError, ValueError) as error:
        problems.append(f"poststop hook {hook['command'][0]}: {error}")
        return None
    finally:
        os.close(stdin)


def _finish(child: subprocess.Popen[bytes], deadline: float) -> str:
    """Wait for a hook's end; what was wrong with it, if anything."""
    try:
        status = child.wait(max(0.0, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        return f"did not end within {TIMEOUT} s, and was killed"
    return f"ended with {status}" if status else ""
