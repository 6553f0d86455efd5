"""What the daemon is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from shim import cli, settings
from shim.errors import ShimError
from shim.lifetime import IDLE_TIMEOUT

_LINE = "-namespace ns -id s1 -address /c.sock -publish-binary /bin/c -socket unix:///s/x"


def test_flags_and_environment_become_settings() -> None:
    told = settings.read(cli.parse([*_LINE.split(), "-config", "/k.toml"]), {"TTRPC_ADDRESS": "/c.sock.ttrpc"})

    assert told.identity.sandbox_id == "s1"
    assert told.identity.namespace == "ns"
    assert told.identity.containerd_address == "/c.sock"
    assert told.identity.socket_path == Path("/s/x")
    assert told.identity.config_path == Path("/k.toml")
    assert (told.ttrpc_address, told.publish_binary) == ("/c.sock.ttrpc", "/bin/c")
    assert told.idle_timeout == IDLE_TIMEOUT


def test_no_configuration_is_none() -> None:
    assert settings.read(cli.parse(_LINE.split()), {}).identity.config_path is None


@pytest.mark.parametrize("line", ["", "-id s1 -namespace ns", "-namespace ns -socket unix:///s/x"])
def test_a_daemon_that_was_not_started_by_start_is_refused(line: str) -> None:
    with pytest.raises(ShimError, match="started by the action start"):
        settings.read(cli.parse(line.split()), {})


def test_the_idle_timeout_can_be_shortened() -> None:
    assert settings.read(cli.parse(_LINE.split()), {settings.IDLE_VARIABLE: "0.5"}).idle_timeout == 0.5


@pytest.mark.parametrize("value", ["soon", "-1", "0", "nan"])
def test_a_senseless_idle_timeout_is_an_error(value: str) -> None:
    with pytest.raises(ShimError, match=settings.IDLE_VARIABLE):
        settings.read(cli.parse(_LINE.split()), {settings.IDLE_VARIABLE: value})
