"""Terminals are handed over on a console socket."""

from __future__ import annotations

import asyncio
import fcntl
import os
import pty
import socket
import struct
import termios

import pytest

from guest.agent import terminal
from guest.agent.errors import InternalError
from guest.agent.terminal import ConsoleSocket

pytestmark = pytest.mark.anyio


async def test_the_terminal_that_crun_sends_is_received_non_blocking(tmp_path):
    master, slave = pty.openpty()
    with ConsoleSocket(str(tmp_path)) as console:
        with socket.socket(socket.AF_UNIX) as crun:
            crun.connect(console.path)
            socket.send_fds(crun, [b"console"], [master])

        received = await asyncio.wait_for(console.receive(), 10)

    assert os.isatty(received)
    assert not os.get_blocking(received)
    assert not os.get_inheritable(received)
    for fd in (master, slave, received):
        os.close(fd)


async def test_the_socket_is_gone_afterwards(tmp_path):
    with ConsoleSocket(str(tmp_path)):
        assert len(os.listdir(tmp_path)) == 1

    assert os.listdir(tmp_path) == []


async def test_a_message_without_a_terminal_is_an_error(tmp_path):
    with ConsoleSocket(str(tmp_path)) as console:
        with socket.socket(socket.AF_UNIX) as crun:
            crun.connect(console.path)
            crun.send(b"nothing")

        with pytest.raises(InternalError, match="no terminal"):
            await asyncio.wait_for(console.receive(), 10)


async def test_a_crun_that_never_comes_is_an_error_in_time(tmp_path, monkeypatch):
    monkeypatch.setattr(terminal, "RECEIVE_TIMEOUT", 0.01)
    with ConsoleSocket(str(tmp_path)) as console, pytest.raises(InternalError, match="no terminal"):
        await console.receive()


def test_a_terminal_takes_its_size():
    master, slave = pty.openpty()

    terminal.resize(master, 30, 99)

    size = fcntl.ioctl(slave, termios.TIOCGWINSZ, bytes(8))
    assert struct.unpack("4H", size)[:2] == (30, 99)
    os.close(master)
    os.close(slave)
