"""What the first process mounts, and how mounts are told."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from guest.agent import boot

MOUNTINFO = [
    "22 27 0:20 / /sys rw,nosuid shared:7 - sysfs sysfs rw\n",
    "23 27 0:21 / /proc rw shared:12 - proc proc rw\n",
    "garbage\n",
]


def test_mount_points_are_the_fifth_field_of_mountinfo():
    assert boot.mount_points(MOUNTINFO) == {"/sys", "/proc"}


def test_every_mount_comes_after_the_one_it_lies_in():
    targets = [target for _, target, _, _, _ in boot.MOUNTS]

    for position, target in enumerate(targets):
        inside = [other for other in targets if target.startswith(other + "/")]
        assert all(targets.index(other) < position for other in inside)


def test_all_required_mounts_are_in_the_table():
    assert {target for _, target, _, _, _ in boot.MOUNTS} >= boot.REQUIRED


def test_what_is_mounted_is_not_mounted_again(monkeypatch):
    calls = []
    monkeypatch.setattr(boot, "_mounted", lambda: {target for _, target, _, _, _ in boot.MOUNTS} - {"/tmp"})
    monkeypatch.setattr(boot.kernel, "mount", lambda *arguments: calls.append(arguments[1]))

    boot.mount_all()

    assert calls == ["/tmp"]


@pytest.mark.parametrize(("name", "names"), [("(none)", ["localhost"]), ("given", [])])
def test_only_a_nameless_machine_is_named(monkeypatch, name, names):
    given = []
    monkeypatch.setattr(boot.os, "uname", lambda: SimpleNamespace(nodename=name))
    monkeypatch.setattr(boot.socket, "sethostname", given.append)

    boot.name_machine()

    assert given == names
