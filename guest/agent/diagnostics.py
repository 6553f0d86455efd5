"""GetDiagnosticData: what explains a container and its end. `log_type` is compared without case and punctuation.

- `termination log`, as in Kata: the file that Kubernetes mounts into a container for its last message; a host without
  a shared file system can't read it otherwise;
- `agent log`, ours: the last lines of the agent's own log, in which no container is named;
- `processes`, ours: what runs in a container, as a JSON list of the objects that `processes.listed` describes.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from guest.agent.beneath import open_path
from guest.agent.errors import InvalidArgumentError, NotFoundError, failed
from guest.agent.layout import Layout

if TYPE_CHECKING:
    from guest.agent.container import Container

LIMIT = 4096
PATH_ANNOTATION = "io.kubernetes.container.terminationMessagePath"
DEFAULT_PATH = "/dev/termination-log"
TERMINATION_LOG = "terminationlog"
AGENT_LOG = "agentlog"
PROCESSES = "processes"


def kind_of(log_type: str) -> str:
    """`TERMINATION_LOG`, `AGENT_LOG` or `PROCESSES`; raises `InvalidArgumentError` for anything else."""
    kind = "".join(char for char in log_type.lower() if char.isalnum())
    if kind not in (TERMINATION_LOG, AGENT_LOG, PROCESSES):
        raise InvalidArgumentError(f"log type {log_type[:40]!r} is unknown")
    return kind


def termination_message(config: dict[str, Any], layout: Layout) -> str:
    """The end of the termination message of the container with this OCI config; `NotFoundError` if it has none."""
    path = config["annotations"].get(PATH_ANNOTATION, DEFAULT_PATH)
    source = next((mount["source"] for mount in config["mounts"] if mount["destination"] == path), None)
    if source is None:
        raise NotFoundError(f"the container has no termination message at {path[:200]}")
    fd = open_path(layout.shared_run, source, "termination message")
    try:
        return _tail(fd)
    except OSError as error:
        raise failed("read the termination message", error) from error
    finally:
        os.close(fd)


def _tail(path_fd: int) -> str:
    import stat

    if not stat.S_ISREG(os.fstat(path_fd).st_mode):
        raise InvalidArgumentError("the termination message is no file")
    with open(f"/proc/self/fd/{path_fd}", "rb") as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - LIMIT))
        return file.read(LIMIT).decode("utf-8", "replace")


def process_list(container: Container, proc: str) -> str:
    """What runs in the container, as JSON."""
    import json

    from guest.agent import processes

    return json.dumps(processes.listed(container.cgroup.path, proc, container.exec_ids()))


def agent_log(lines: Iterable[str]) -> str:
    """The last lines of the agent's log."""
    return "\n".join(lines)[-LIMIT:]
