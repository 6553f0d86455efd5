"""Contract: legal moves give the next state; illegal ones raise with containerd's code and say why."""

from __future__ import annotations

import pytest

from sandbox.errors import FailedPreconditionError, NotFoundError
from sandbox.interface import ProcessStatus
from sandbox.lifecycle import Created, Deleted, Paused, Running, State, Stopped

MOVES = ("started", "paused", "resumed", "exited", "deleted")
LEGAL = {
    Created: {"started": Running, "exited": Stopped, "deleted": Deleted},
    Running: {"paused": Paused, "exited": Stopped},
    Paused: {"resumed": Running, "exited": Stopped},
    Stopped: {"exited": Stopped, "deleted": Deleted},
    Deleted: {"exited": Deleted},
}


@pytest.mark.parametrize("state", LEGAL)
@pytest.mark.parametrize("move", MOVES)
def test_each_move_from_each_state(state: type[State], move: str):
    current = state("container c1")
    if move in LEGAL[state]:
        assert type(getattr(current, move)()) is LEGAL[state][move]
    elif (state, move) == (Deleted, "deleted"):
        with pytest.raises(NotFoundError, match="container c1: not found"):
            current.deleted()
    else:
        with pytest.raises(FailedPreconditionError, match="container c1: it is"):
            getattr(current, move)()


def test_statuses_are_those_of_containerd():
    assert [state.status for state in (Created, Running, Stopped, Paused)] == [
        ProcessStatus(number) for number in (1, 2, 3, 4)
    ]


@pytest.mark.parametrize("state", [Stopped, Deleted])
def test_a_signal_to_an_ended_process_is_not_found(state):
    with pytest.raises(NotFoundError, match="process already finished"):
        state("container c1").check_signal()


@pytest.mark.parametrize("state", [Created, Paused, Stopped, Deleted])
def test_exec_needs_a_running_init(state):
    with pytest.raises(FailedPreconditionError, match="exec in"):
        state("container c1").check_exec()
    Running("container c1").check_exec()
