"""Errors are one bounded printable line with the right status."""

from __future__ import annotations

import errno

import pytest
from grpclib.const import Status

from guest.agent import errors


def test_a_message_is_folded_to_one_printable_line():
    assert errors.one_line("a\nb\t\x1b[31mc  d") == "a b ?[31mc d"


def test_a_message_is_cut_at_its_limit():
    assert errors.one_line("x" * 5000, 10) == "xxxxxxx..."


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        (errors.NotFoundError, Status.NOT_FOUND),
        (errors.AlreadyExistsError, Status.ALREADY_EXISTS),
        (errors.InvalidArgumentError, Status.INVALID_ARGUMENT),
        (errors.FailedPreconditionError, Status.FAILED_PRECONDITION),
        (errors.PermissionDeniedError, Status.PERMISSION_DENIED),
        (errors.DeadlineError, Status.DEADLINE_EXCEEDED),
        (errors.UnimplementedError, Status.UNIMPLEMENTED),
        (errors.InternalError, Status.INTERNAL),
    ],
)
def test_each_error_has_its_status_and_message(kind, status):
    error = kind("what\nhappened")

    assert (error.status, error.message, str(error)) == (status, "what happened", "what happened")


def test_a_failed_system_call_names_what_was_tried_and_why_it_failed():
    error = errors.failed("mount x", OSError(errno.EBUSY, "Device or resource busy"))

    assert str(error) == "mount x: Device or resource busy"
