"""The small values: errors, deadlines, metadata."""

from __future__ import annotations

import math
import time

import pytest
from grpclib.const import Status
from grpclib.exceptions import GRPCError

from ttrpc.deadline import Deadline, earliest, to_nanos
from ttrpc.envelope import RpcStatus
from ttrpc.errors import TEXT_MAX, closed, from_exception, rpc_status, to_grpc_error
from ttrpc.metadata import Metadata, to_pairs


def test_a_grpc_error_survives_the_wire_with_its_details() -> None:
    status = from_exception(GRPCError(Status.NOT_FOUND, "gone", [b"any"]))

    error = to_grpc_error(status)

    assert status == RpcStatus(5, "gone", (b"any",))
    assert (error.status, error.message, error.details) == (Status.NOT_FOUND, "gone", (b"any",))


def test_a_grpc_error_without_text_has_an_empty_one() -> None:
    assert from_exception(GRPCError(Status.ABORTED)) == RpcStatus(10)


class UnprintableError(Exception):
    def __str__(self) -> str:
        raise RuntimeError


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ValueError("why"), "why"),
        (ValueError(), "ValueError"),
        (UnprintableError(), "UnprintableError that can't be sent: RuntimeError"),
        (GRPCError(Status.ABORTED, 7), "GRPCError that can't be sent: TypeError"),  # type: ignore[arg-type]
        (GRPCError(7, "seven"), "GRPCError that can't be sent: AttributeError"),  # type: ignore[arg-type]
        (GRPCError(Status.ABORTED, "", "details"), "GRPCError that can't be sent: TypeError"),
    ],
)
def test_any_other_error_is_unknown_even_one_that_can_not_be_told(error: Exception, text: str) -> None:
    assert from_exception(error) == RpcStatus(2, text)


@pytest.mark.parametrize("code", [17, 99, -1])
def test_a_code_that_grpc_does_not_know_becomes_unknown(code: int) -> None:
    error = to_grpc_error(RpcStatus(code, "odd"))

    assert (error.status, error.message) == (Status.UNKNOWN, f"code {code}: odd")


def test_long_texts_are_cut() -> None:
    assert len(rpc_status(Status.UNKNOWN, "x" * 10**6).message) == TEXT_MAX


def test_a_lost_connection_has_the_text_that_containerd_looks_for() -> None:
    error = closed("end of file")

    assert (error.status, error.message) == (Status.UNAVAILABLE, "ttrpc: closed: end of file")


def test_time_remaining_counts_down_to_zero() -> None:
    assert 0 < Deadline.from_timeout(60).time_remaining() <= 60
    assert Deadline.from_timeout(-1).time_remaining() == 0


@pytest.mark.parametrize(
    ("timeout", "deadline", "seconds"),
    [(None, None, None), (60, None, 60), (None, 60, 60), (5, 60, 5), (60, 5, 5)],
)
def test_the_earlier_limit_counts(timeout: float | None, deadline: float | None, seconds: float | None) -> None:
    limit = earliest(timeout, None if deadline is None else Deadline.from_timeout(deadline))

    if seconds is None:
        assert limit is None
    else:
        assert limit is not None
        assert seconds - 1 < limit.when - time.monotonic() <= seconds


@pytest.mark.parametrize(
    ("seconds", "nanos"), [(1e-12, 1), (0.0, 1), (1.5, 1_500_000_000), (1e12, 2**63 - 1), (math.inf, 2**63 - 1)]
)
def test_timeout_nano_is_never_none_and_fits_an_int64(seconds: float, nanos: int) -> None:
    assert to_nanos(seconds) == nanos


def test_received_metadata_is_a_mapping_of_first_values() -> None:
    metadata = Metadata((("Trace", "1"), ("trace", "2"), ("ns", "k8s.io")))

    assert dict(metadata) == {"trace": "1", "ns": "k8s.io"}
    assert (len(metadata), metadata["trace"], metadata.get("none")) == (2, "1", None)
    assert metadata.getall("trace") == ["1", "2"]
    assert metadata.getall("none") == []


@pytest.mark.parametrize("given", [{"Key": "v"}, [("Key", "v")], (("kEY", "v"),)])
def test_metadata_to_send_has_lower_case_keys(given: object) -> None:
    assert to_pairs(given) == (("key", "v"),)  # type: ignore[arg-type]


def test_no_metadata_is_no_pairs() -> None:
    assert to_pairs(None) == to_pairs({}) == ()


def test_metadata_that_is_not_text_is_refused() -> None:
    with pytest.raises(TypeError, match="metadata 'key-bin': ttrpc carries text, not bytes"):
        to_pairs({"key-bin": b"x"})  # type: ignore[dict-item]
