"""The two handshakes, byte by byte, however the bytes are cut."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_client import handshake
from agent_client.handshake import HandshakeError, HybridHandshake, SerialHandshake

NONCE = "0123456789abcdef" * 2
ANSWER = f"OK {NONCE}\n".encode()


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    """`data` cut at the given places."""
    places = sorted({min(cut, len(data)) for cut in cuts} | {0, len(data)})
    return [data[begin:end] for begin, end in pairwise(places)]


def test_the_serial_greeting_is_padding_and_a_line_with_a_fresh_number():
    first, second = SerialHandshake().greeting, SerialHandshake().greeting

    assert re.fullmatch(rb"\0{16}KATA-AGENT 1 [0-9a-f]{32}\n", first)
    assert first != second


def test_the_guests_agent_knows_the_serial_greeting():
    from guest.agent.preamble import PreambleScanner

    shaking = SerialHandshake(NONCE)

    assert PreambleScanner().feed(b"half a frame" + shaking.greeting) == (NONCE.encode(), b"")


@given(noise=st.binary(max_size=200), cuts=st.lists(st.integers(0, 240), max_size=8))
def test_the_serial_answer_is_found_behind_any_noise_and_over_any_cuts(noise, cuts):
    shaking = SerialHandshake(NONCE)

    *before, last = [shaking.feed(piece) for piece in pieces(noise + ANSWER, cuts)]

    assert last
    assert not any(before)


def test_an_answer_to_another_session_is_noise():
    shaking = SerialHandshake(NONCE)

    assert not shaking.feed(f"OK {'f' * 32}\n".encode())
    assert shaking.waiting == "no OK came from the guest's port, only 36 bytes of something else"
    assert shaking.feed(ANSWER)


def test_a_silent_port_is_described_as_one():
    assert SerialHandshake().waiting == "nothing came from the guest's port, so no agent has opened it"


def test_a_flood_of_noise_ends_the_handshake(monkeypatch):
    monkeypatch.setattr(handshake, "MAX_DISCARDED", 1000)
    shaking = SerialHandshake(NONCE)
    shaking.feed(b"x" * 1000)

    with pytest.raises(HandshakeError, match="more than 1000 bytes came before the agent's OK"):
        shaking.feed(b"x")


def test_noise_is_not_kept():
    shaking = SerialHandshake(NONCE)
    for _ in range(100):
        shaking.feed(b"x" * 10_000)

    assert len(shaking._tail) < len(ANSWER)


@pytest.mark.parametrize("shaking", [SerialHandshake(NONCE), HybridHandshake(1024)])
def test_bytes_behind_the_answer_are_a_fault(shaking):
    answer = ANSWER if isinstance(shaking, SerialHandshake) else b"OK 1\n"

    with pytest.raises(HandshakeError, match="2 bytes came after the handshake"):
        shaking.feed(answer + b"xy")


def test_the_hybrid_greeting_asks_for_the_port():
    assert HybridHandshake(1024).greeting == b"CONNECT 1024\n"


@given(cuts=st.lists(st.integers(0, 20), max_size=8))
def test_the_hybrid_answer_is_one_line_over_any_cuts(cuts):
    shaking = HybridHandshake(1024)

    *before, last = [shaking.feed(piece) for piece in pieces(b"OK 1073741824\n", cuts)]

    assert last
    assert not any(before)


@pytest.mark.parametrize("answer", [b"ERR no\n", b"OK\n", b"OK x\n", b"OK 1 \n", b"\n", b"ok 1\n", b"x" * 33])
def test_a_wrong_hybrid_answer_is_shown(answer):
    with pytest.raises(HandshakeError, match="the VMM answered CONNECT 1024 with b'") as caught:
        HybridHandshake(1024).feed(answer)

    assert len(str(caught.value)) < 200


def test_a_silent_vmm_is_described_as_one():
    assert HybridHandshake(1024).waiting == "the VMM did not answer CONNECT 1024"


@given(st.lists(st.binary(max_size=100), max_size=20))
def test_no_bytes_but_the_answer_complete_a_serial_handshake(chunks):
    shaking = SerialHandshake(NONCE)

    assert not any(shaking.feed(chunk) for chunk in chunks if ANSWER not in chunk)
