"""`kata-ctl cache` is the cache's own program, with one line about what is wrong."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from ctl import cache, programs


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        programs.command(cache.MODULE, arguments), capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize("action", ["status", "drain", "stop"])
def test_without_a_server_there_is_nothing_to_ask(tmp_path: Path, action: str) -> None:
    file = tmp_path / "c.toml"
    file.write_text(f'[factory]\nvm_cache_endpoint = "{tmp_path}/s"\n')

    done = run(action, "--file", str(file))

    assert (done.returncode, done.stdout) == (1, "")
    assert f"no server answers at {tmp_path}/s" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_configuration_that_is_wrong_is_told_as_ever(tmp_path: Path) -> None:
    file = tmp_path / "c.toml"
    file.write_text("[factory]\nvm_cache_number = -1\n")

    done = run("start", "--file", str(file))

    assert done.returncode == 1
    assert "vm_cache_number" in done.stderr
    assert done.stderr.count("\n") == 1


def test_the_command_line_becomes_the_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    became: list[list[str]] = []
    monkeypatch.setattr(programs.os, "execv", lambda _, words: became.append(words))

    cache.become("start", Path("/etc/c.toml"), foreground=True)

    assert became[0][-4:] == ["start", "--foreground", "--file", "/etc/c.toml"]
