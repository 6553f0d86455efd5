"""crun's words become what the host can act on."""

from __future__ import annotations

import pytest
from grpclib.const import Status

from guest.agent.crun_errors import error_for, last_error


def test_the_last_error_of_the_log_is_found():
    log = (
        '{"msg":"first","level":"error"}\n{"msg":"second","level":"error"}\n{"msg":"note","level":"warning"}\nrubbish\n'
    )

    assert last_error(log) == "second"


@pytest.mark.parametrize("log", ["", "rubbish", "[]", "{}"])
def test_a_log_without_an_error_has_none(log):
    assert last_error(log) == ""


@pytest.mark.parametrize(
    ("message", "program", "status", "text"),
    [
        (
            "executable file `foo` not found in $PATH: No such file or directory",
            "foo",
            Status.NOT_FOUND,
            'exec: "foo": executable file not found in $PATH',
        ),
        (
            "executable file `/bin/foo` not found in $PATH: No such file or directory",
            "/bin/foo",
            Status.NOT_FOUND,
            'exec: "/bin/foo": no such file or directory',
        ),
        ("open executable: Permission denied", "x", Status.PERMISSION_DENIED, 'exec: "x": permission denied'),
        ("open executable: Operation not permitted", "/", Status.PERMISSION_DENIED, 'exec: "/": permission denied'),
        (
            "exec container process `/g`: Exec format error",
            "/g",
            Status.PERMISSION_DENIED,
            'exec: "/g": exec format error',
        ),
        ("mount `x` to `y`: Invalid argument", "x", Status.INTERNAL, "crun create: mount `x` to `y`: Invalid argument"),
        ("", "x", Status.INTERNAL, "crun create: ended with status 1 and no message"),
    ],
)
def test_messages_are_classified(message, program, status, text):
    error = error_for("create", 1, message, [program])

    assert (error.status, error.message) == (status, text)


def test_without_a_program_it_is_never_about_one():
    assert error_for("update", 1, "executable file `x` not found in $PATH").status is Status.INTERNAL
