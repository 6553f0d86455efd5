"""Sockets that listen before their server exists."""

from __future__ import annotations

import socket
import stat
from pathlib import Path

import pytest

from hypervisor.errors import HypervisorError
from hypervisor.sockets import PATH_LIMIT, listen, remove


def test_a_client_may_connect_at_once_and_nobody_else_may(tmp_path: Path):
    path = tmp_path / "agent"
    with listen(path), socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_stale_socket_is_replaced(tmp_path: Path):
    path = tmp_path / "agent"
    listen(path).close()
    with listen(path), socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))


def test_a_path_that_does_not_fit_an_address_is_named(tmp_path: Path):
    with pytest.raises(HypervisorError, match=f"longer than {PATH_LIMIT} bytes: use a shorter run directory"):
        listen(tmp_path / ("x" * PATH_LIMIT))


def test_a_directory_that_is_missing_is_told(tmp_path: Path):
    with pytest.raises(HypervisorError, match=r"can't listen on .*/gone/agent: No such file or directory"):
        listen(tmp_path / "gone" / "agent")


def test_removing_is_idempotent(tmp_path: Path):
    path = tmp_path / "agent"
    listen(path).close()
    remove(path)
    remove(path)
    assert not path.exists()
