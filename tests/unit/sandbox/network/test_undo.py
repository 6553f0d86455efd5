"""What a journal may hold, and which requests come of it."""

from __future__ import annotations

import struct
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox.network import undo

LO = {"index": 1, "name": "lo", "device": "kt-no-such", "places": ["ingress", "root"]}


@given(
    st.recursive(
        st.none() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    )
)
def test_a_malformed_journal_is_nothing_to_undo(value):
    undo.undo(value)
    undo.undo({"namespace": "/nonexistent", "links": value})
    undo.undo_in(-1, value if value != [] else None)


def test_a_namespace_that_is_another_now_is_left_alone():
    undo.undo({"namespace": "/proc/self/ns/net", "device": 0, "inode": 0, "links": [LO]})


def test_both_disciplines_of_a_link_are_asked_to_go():
    kinds = [struct.unpack_from("=IHHII", request)[1] for request in undo._requests(LO)]
    places = [struct.unpack_from("=iIII", request, 20)[:3] for request in undo._requests(LO)]

    assert kinds == [37, 37]
    assert places == [(1, 0xFFFF0000, 0xFFFFFFF1), (1, 0, 0xFFFFFFFF)]


@pytest.mark.parametrize("change", [{"name": "eth0"}, {"index": 2**31 - 1}, {"index": -1}, {"index": 2**70}])
def test_a_link_that_is_another_now_is_left_alone(change):
    assert undo._requests(LO | change) == []


def test_a_namespace_that_no_thread_may_be_started_for_is_told_as_an_error_of_the_system(monkeypatch):
    def refuse(_):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)

    with pytest.raises(OSError, match="can't start new thread"):
        undo.undo_in(-1, [LO])
