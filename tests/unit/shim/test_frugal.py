"""The message library comes alone, and takes nothing away from who needs the rest."""

from __future__ import annotations

import subprocess
import sys

from tests.unit.shim.place import PROJECT

_PROLOGUE = f"""
import sys
sys.path.insert(0, {str(PROJECT)!r})
from shim.paths import add_import_roots
add_import_roots()
from shim import frugal
frugal.import_messages()
"""


def _run(code: str) -> str:
    command = [sys.executable, "-I", "-S", "-c", _PROLOGUE + code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_daemon_imports_neither_http2_nor_the_email_package() -> None:
    modules = set(_run("import shim.app, sandbox.sandbox; print(*sys.modules)").split())

    assert "betterproto2" in modules
    assert modules & {"h2", "hpack", "email", "importlib.metadata", "grpclib.server"} == set()


def test_the_real_modules_can_still_be_imported() -> None:
    code = """
import grpclib.server, importlib.metadata
from protos.gen.containerd.task.v2 import TaskBase
print(grpclib.server.Server.__name__, importlib.metadata.version("betterproto2") == betterproto2.__version__)
"""
    assert _run("import betterproto2\n" + code) == "Server True\n"


def test_modules_that_are_there_already_stay() -> None:
    code = f"""
import sys
sys.path.insert(0, {str(PROJECT)!r})
from shim.paths import add_import_roots
add_import_roots()
import grpclib.server
server = grpclib.server
from shim import frugal
frugal.import_messages()
frugal.import_messages()
import grpclib.server
print(grpclib.server is server, frugal.installed_version("nonexistent"))
"""
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, timeout=60)

    assert done.stdout == "True None\n", done.stderr


def test_the_daemon_runs_its_event_loop_without_openssl() -> None:
    code = f"""
import sys
sys.path.insert(0, {str(PROJECT)!r})
from shim.paths import add_import_roots
add_import_roots()
from shim import frugal
frugal.leave_out_ssl()
frugal.import_messages()
import asyncio, socket, uvloop
import sandbox.sandbox, shim.app

async def main():
    near, far = socket.socketpair()
    reader, _ = await asyncio.open_unix_connection(sock=near)
    _, writer = await asyncio.open_unix_connection(sock=far)
    writer.write(b"hello")
    return await reader.readexactly(5)

with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
    print(runner.run(main()).decode(), "_ssl" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, timeout=60)

    assert done.stdout == "hello False\n", done.stderr
