"""Seeds and clocks are checked before the kernel sees them."""

from __future__ import annotations

import pytest

from guest.agent import identity
from guest.agent.errors import InternalError, InvalidArgumentError


@pytest.mark.parametrize("data", [b"", bytes(5000)])
def test_a_seed_of_no_or_too_many_bytes_is_refused(data):
    with pytest.raises(InvalidArgumentError):
        identity.reseed(data)


def test_a_device_that_takes_no_seed_is_an_error():
    with pytest.raises(InternalError, match="random device"):
        identity.reseed(b"x", "/dev/null")


@pytest.mark.parametrize(("seconds", "microseconds"), [(-1, 0), (0, -1), (0, 1_000_000), (1 << 62, 0)])
def test_what_is_no_time_is_refused(seconds, microseconds):
    with pytest.raises(InvalidArgumentError):
        identity.set_clock(seconds, microseconds)


def test_the_clock_is_set_to_the_nanosecond_given(monkeypatch):
    calls = []
    monkeypatch.setattr(identity.time, "clock_settime_ns", lambda clock, value: calls.append((clock, value)))

    identity.set_clock(5, 7)

    assert calls == [(identity.time.CLOCK_REALTIME, 5_000_007_000)]


def test_a_library_that_drew_before_the_clone_draws_anew():
    class Generator:
        seeded = 0

        def seed(self):
            self.seeded += 1

    generator = Generator()

    identity.forget_drawn({"random": generator})
    identity.forget_drawn({})

    assert generator.seeded == 1


def test_every_machine_has_an_id_of_its_own(tmp_path):
    drawn = set()
    for name in ("a", "b"):
        identity.name_machine(str(tmp_path / name), str(tmp_path / "no-such-place"))
        drawn.add((tmp_path / name / "machine-id").read_text())

    assert len(drawn) == 2
    assert all(len(text) == 33 and int(text, 16) for text in drawn)
