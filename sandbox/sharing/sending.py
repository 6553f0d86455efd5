"""Pieces of the host's files on their way to the guest: read in a thread, sent some at a time."""

from __future__ import annotations

import stat
from collections.abc import Iterable, Iterator
from functools import partial
from itertools import islice

import anyio

from agent_client.errors import AgentError
from hypervisor.threads import aside
from sandbox.sharing.share import Guest
from sandbox.sharing.tree import Piece, Tree

#: Pieces that are read at a time, in a thread: a slow disk must not hold up the daemon.
BATCH = 16
#: For parents that are not among the pieces.
_DIR_MODE = 0o755


async def send_tree(guest: Guest, tree: Tree, target: str) -> None:
    """Copy a tree to `target` in the guest, or nothing if it is too large. Raises `SandboxError`, `AgentError`."""
    await aside(tree.check, abandon_on_cancel=True)
    pieces = tree.pieces()
    while batch := await aside(partial(_take, pieces), abandon_on_cancel=True):
        for together in rounds(batch):
            await _send_all(guest, together, target)


async def send(guest: Guest, piece: Piece, target: str) -> None:
    """Copy one piece of a tree that is at `target`; raises `AgentError`."""
    await guest.copy_file(
        path=f"{target}/{piece.path}" if piece.path else target,
        file_size=piece.size,
        file_mode=piece.mode,
        dir_mode=_DIR_MODE,
        uid=piece.uid,
        gid=piece.gid,
        offset=piece.offset,
        data=piece.data,
    )


def rounds(pieces: Iterable[Piece]) -> Iterator[list[Piece]]:
    """The pieces, in order, as lists of such that may be sent at the same time.

    A directory goes before what is in it, and Kata's agent gathers the parts of a file under its name with the last
    suffix replaced, which two files must not share meanwhile.
    """
    together: dict[str, Piece] = {}
    for piece in pieces:
        parent, _, base = piece.path.rpartition("/")
        name = f"{parent}/{base.rpartition('.')[0] or base}"
        if together and (name in together or stat.S_ISDIR(piece.mode)):
            yield list(together.values())
            together = {}
        together[name] = piece
        if stat.S_ISDIR(piece.mode):
            yield [piece]
            together = {}
    if together:
        yield list(together.values())


async def _send_all(guest: Guest, pieces: list[Piece], target: str) -> None:
    failures: list[AgentError] = []

    async def attempt(piece: Piece) -> None:
        try:
            await send(guest, piece, target)
        except AgentError as error:
            failures.append(error)

    async with anyio.create_task_group() as group:
        for piece in pieces:
            group.start_soon(attempt, piece)
    if failures:
        raise failures[0]


def _take(pieces: Iterator[Piece]) -> list[Piece]:
    return list(islice(pieces, BATCH))
