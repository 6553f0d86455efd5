"""The kernel's multi-generational LRU: its generations per cgroup, and the commands that age and evict them.

See Documentation/admin-guide/mm/multigen_lru.rst: `/sys/kernel/mm/lru_gen/enabled`, and the debugfs file `lru_gen`.
"""

from __future__ import annotations

import os

from guest.agent import kernel
from guest.agent.errors import FailedPreconditionError, failed

#: The youngest generations, which the kernel keeps.
KEPT_GENERATIONS = 2
_READ_LIMIT = 1 << 22


class Node:
    """The pages of one cgroup on one NUMA node: its oldest and youngest generation, and the pages of the oldest."""

    __slots__ = ("memcg", "node", "oldest", "oldest_pages", "path", "youngest")

    def __init__(self, memcg: int, path: str, node: int) -> None:
        self.memcg = memcg
        #: Of the cgroup, relative to the root of all.
        self.path = path
        self.node = node
        self.oldest = self.youngest = -1
        #: Anonymous pages and file pages.
        self.oldest_pages = (0, 0)


def parse(text: str) -> list[Node]:
    """The nodes in the text of `lru_gen`; lines of another shape are left out."""
    nodes: list[Node] = []
    memcg, path = 0, ""
    for line in text.splitlines():
        words = line.split()
        if len(words) >= 2 and words[0] == "memcg" and words[1].isdigit():
            memcg, path = int(words[1]), words[2] if len(words) > 2 else "/"
        elif len(words) == 2 and words[0] == "node" and words[1].isdigit():
            nodes.append(Node(memcg, path, int(words[1])))
        elif len(words) == 4 and nodes and all(word.isdigit() for word in words):
            _add_generation(nodes[-1], [int(word) for word in words])
    return [node for node in nodes if node.youngest >= 0]


def _add_generation(node: Node, values: list[int]) -> None:
    number, _, anonymous, file = values
    if node.oldest < 0:
        node.oldest, node.oldest_pages = number, (anonymous, file)
    node.youngest = number


def aging(node: Node, swap: bool) -> str:
    """The command that looks which pages were used and makes a new youngest generation."""
    return f"+ {node.memcg} {node.node} {node.youngest} {int(swap)} 1"


def eviction(node: Node, swappiness: int) -> str:
    """The command that evicts the oldest generation."""
    return f"- {node.memcg} {node.node} {node.oldest} {swappiness}"


def is_evictable(node: Node) -> bool:
    """Whether the kernel would evict the oldest generation: it keeps the youngest ones."""
    return node.oldest + KEPT_GENERATIONS <= node.youngest


class Lru:
    """The kernel's files; the defaults are those of the guest."""

    def __init__(self, sys: str = "/sys") -> None:
        self._switch = f"{sys}/kernel/mm/lru_gen/enabled"
        self._debug = f"{sys}/kernel/debug"
        self._commands = f"{self._debug}/lru_gen"

    def enable(self) -> None:
        """Switch it on, with debugfs mounted for its commands; raises `FailedPreconditionError` without it."""
        if not os.path.exists(self._switch):
            raise FailedPreconditionError("the guest's kernel has no multi-generational LRU")
        try:
            with open(self._switch, "w", encoding="ascii") as file:
                file.write("y")
            if not os.path.exists(self._commands):
                kernel.mount("debugfs", self._debug, "debugfs", kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC)
        except OSError as error:
            raise failed("enable the multi-generational LRU", error) from error

    def nodes(self, below: str) -> list[Node]:
        """The nodes of the cgroups below the path `below`; raises `OSError`."""
        with open(self._commands, encoding="ascii", errors="replace") as file:
            return [node for node in parse(file.read(_READ_LIMIT)) if node.path.startswith(below.rstrip("/") + "/")]

    def run(self, command: str) -> None:
        """Have the kernel do it; raises `OSError`."""
        fd = os.open(self._commands, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, command.encode())
        finally:
            os.close(fd)
