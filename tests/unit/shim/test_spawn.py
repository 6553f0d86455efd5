"""What the daemon inherits."""

from __future__ import annotations

import sys

import pytest

from shim import cli, spawn
from shim.bootstrap import ANY, PARAMS, Bootstrap
from shim.errors import ShimError

_INVOCATION = cli.parse(["-namespace", "ns", "-address", "/c.sock", "-publish-binary", "/bin/c", "-id", "s1", "start"])


def test_the_daemon_runs_isolated_with_flags_that_explain_it() -> None:
    arguments = spawn.daemon_arguments(_INVOCATION, Bootstrap(ANY, config_path="/k.toml"), "unix:///s/x", "/e.py")

    assert arguments[:5] == [sys.executable, "-I", "-S", "-OO", "/e.py"]
    told = cli.parse(arguments[5:])
    assert (told.namespace, told.id, told.address) == ("ns", "s1", "/c.sock")
    assert (told.publish_binary, told.socket, told.config) == ("/bin/c", "unix:///s/x", "/k.toml")
    assert not told.debug


@pytest.mark.parametrize("flag", [True, False])
def test_debug_comes_from_the_flag_or_the_handshake(flag: bool) -> None:
    invocation = cli.parse(["-id", "s1", "-debug", "start"]) if flag else _INVOCATION

    arguments = spawn.daemon_arguments(invocation, Bootstrap(PARAMS, debug=not flag), "unix:///s/x", "/e.py")

    assert cli.parse(arguments[5:]).debug


def test_the_handshakes_event_address_wins() -> None:
    inherited = {"TTRPC_ADDRESS": "/old", "PATH": "/bin"}

    assert spawn.daemon_environment(inherited, Bootstrap(ANY)) == inherited
    assert spawn.daemon_environment(inherited, Bootstrap(PARAMS, ttrpc_address="/new"))["TTRPC_ADDRESS"] == "/new"


@pytest.mark.parametrize(("parent", "daemon"), [("-999\n", -998), ("0\n", 1), ("1000\n", 1000)])
def test_the_kernel_kills_the_daemon_before_containerd(parent: str, daemon: int) -> None:
    assert spawn.daemon_oom_score(parent) == daemon


def test_a_program_that_is_not_there_is_an_error() -> None:
    with pytest.raises(ShimError, match="start of the daemon"):
        spawn.spawn(["/nonexistent/python"], {}, 0)
