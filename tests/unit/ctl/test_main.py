"""The verbs on the command line: what they print, and how they fail."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from ctl import checks, main
from ctl.checks import Level
from tests.unit.ctl.conftest import STARTED, MakePod


def fails(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line on standard error of a command that must fail."""
    assert main.run(arguments) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    return captured.err


def test_list_shows_each_pod_in_a_row(make_pod: MakePod, capsys: pytest.CaptureFixture[str]) -> None:
    make_pod("c1")
    make_pod("c2", started=None)

    assert main.run(["list"]) == 0

    rows = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert "shop/web-1" in rows["c1"]
    assert "2 vCPU 512 MiB  tcg" in rows["c1"]
    assert "cold 4.00s" in rows["c1"]
    assert "starting" in rows["c2"]


def test_list_as_json(make_pod: MakePod, capsys: pytest.CaptureFixture[str]) -> None:
    make_pod("c1")

    main.run(["list", "--json"])

    [pod] = json.loads(capsys.readouterr().out)
    assert (pod["sandbox_id"], pod["pid"], pod["start"]["kind"]) == ("c1", os.getpid(), "cold")


def test_inspect_works_without_the_daemon(make_pod: MakePod, capsys: pytest.CaptureFixture[str]) -> None:
    make_pod("c1")

    assert main.run(["inspect", "c1"]) == 0

    told = json.loads(capsys.readouterr().out)
    assert "No such file" in told["daemon"]["error"]
    assert told["processes"]["qemu"]["threads"] >= 1
    assert told["journal"]["namespace"] == "k8s.io"


def test_phases_with_bars_and_reasons(make_pod: MakePod, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    kernel = tmp_path / "bzImage"
    kernel.write_bytes(b"MZ and more")
    make_pod("c1", started=STARTED | {"vm": STARTED["vm"] | {"kernel": str(kernel)}})

    main.run(["phases", "c1"])

    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "sandbox c1: cold start in 4.000 s"
    assert [line.count("#") for line in lines[1:4]] == [5, 30, 1]
    assert [word in "".join(lines[4:]) for word in ("no KVM", "enable_debug", "compressed")] == [True] * 3


@pytest.mark.parametrize("durations", [None, [], {}])
def test_phases_of_a_pod_that_is_not_up(
    make_pod: MakePod, capsys: pytest.CaptureFixture[str], durations: object
) -> None:
    make_pod("c1", started={"start": {"durations": durations}})

    assert "told no phases" in fails(capsys, "phases", "c1")


@pytest.mark.parametrize("durations", [{"vm": "x", "a": None}, {"vm": -1}, {str(number): 1 for number in range(999)}])
def test_phases_of_a_strange_journal(
    make_pod: MakePod, capsys: pytest.CaptureFixture[str], durations: dict[str, object]
) -> None:
    make_pod("c1", started={"start": {"kind": 3, "total": "?", "durations": durations}})

    assert main.run(["phases", "c1"]) == 0
    assert len(capsys.readouterr().out.splitlines()) <= 101


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("inspect", "nope"), "no sandbox 'nope'"),
        (("metrics", "c1"), "No such file"),
        (("iptables", "set", "c1"), "needs a file"),
        (("iptables", "set", "c1", "/nonexistent"), "/nonexistent: No such file"),
        (("config", "show", "--file", "/nonexistent"), "does not exist"),
        (("direct-volume", "add", "--volume-path", "/v"), "--mount-info"),
        (("direct-volume", "resize", "--volume-path", "/v", "--size", "-1"), "--size"),
        (("monitor", "--listen", "nowhere"), "HOST:PORT"),
        (("monitor", "--listen", "127.0.0.1:99999"), "HOST:PORT"),
    ],
)
def test_a_failure_is_one_line(
    make_pod: MakePod, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], words: str
) -> None:
    make_pod("c1")

    assert words in fails(capsys, *arguments)


def test_the_configuration_with_where_it_comes_from(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import tomllib

    file = tmp_path / "configuration.toml"
    file.write_text('[hypervisor.qemu]\ndefault_memory = 512\nkernel_params = "a=\\"b\\""\n')

    assert main.run(["config", "show", "--file", str(file)]) == 0

    output = capsys.readouterr().out
    assert f"default_memory = 512  # {file}:2" in output
    shown = tomllib.loads(output)
    assert shown["hypervisor"]["qemu"]["kernel_params"] == 'a="b"'
    assert shown["runtime"]["sandbox_cgroup_only"] in (True, False)


def test_an_invalid_configuration_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "configuration.toml"
    file.write_text("[hypervisor.qemu]\ndefault_memry = 512\n")

    assert "default_memory" in fails(capsys, "config", "check", "--file", str(file))


def test_check_fails_with_what_does_not_fit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "configuration.toml"
    file.write_text('[hypervisor.qemu]\npath = "/nonexistent/qemu"\n')

    assert main.run(["check", "--file", str(file)]) == 1

    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("FAIL  qemu") and "/nonexistent/qemu" in line for line in lines)
    assert any("cgroups" in line for line in lines)


@pytest.mark.parametrize(
    ("made", "words", "level"),
    [
        ("cgroup.controllers", "version 2 (unified)", Level.FITS),
        ("unified/cgroup.controllers", "hybrid", Level.FITS),
        ("memory/tasks", "version 1", Level.FITS),
        ("nothing", "no cgroups", Level.FAILS),
    ],
)
def test_the_cgroup_mode(tmp_path: Path, made: str, words: str, level: Level) -> None:
    (tmp_path / made).parent.mkdir(exist_ok=True)
    (tmp_path / made).touch()

    found = checks.cgroup_mode(tmp_path)

    assert (found.level, words in found.text) == (level, True)


@pytest.mark.parametrize(
    ("tags", "level"),
    [("shared:1 ", Level.FITS), ("shared:7 master:2 ", Level.FITS), ("master:2 ", Level.LESS), ("", Level.LESS)],
)
def test_whether_pods_see_later_mounts_of_the_host(tags: str, level: Level) -> None:
    mountinfo = f"27 1 254:0 / / rw {tags}- ext4 /dev/vda rw\n28 27 0:5 / /proc rw shared:3 - proc proc rw\n"

    assert checks.mount_propagation(mountinfo).level == level
