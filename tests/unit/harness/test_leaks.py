"""What is left: the difference of two inventories."""

from __future__ import annotations

import pytest

from tests.harness import inventory, leaks
from tests.harness.inventory import Scope


def test_only_what_is_new_is_left():
    before = {"mounts": {"1 /a": "/a"}}
    after = {"mounts": {"1 /a": "/a", "2 /b": "/b (tmpfs)"}, "sockets": {}}

    assert leaks.difference(before, after) == {"mounts": ["/b (tmpfs)"]}


def test_what_went_away_is_no_leak():
    assert leaks.difference({"files": {"/run/x": "/run/x"}}, {"files": {}}) == {}


def test_of_a_tree_only_the_top_is_named():
    after = {"files": {"/run/kata/x": "/run/kata/x", "/run/kata/x/qmp": "/run/kata/x/qmp", "/run/y": "/run/y"}}

    assert leaks.difference({"files": {}}, after) == {"files": ["/run/kata/x", "/run/y"]}


def test_a_check_reports_a_file_that_stays(tmp_path, monkeypatch):
    monkeypatch.setattr(inventory, "SOURCES", {"files": lambda scope: {str(p): str(p) for p in tmp_path.iterdir()}})
    check = leaks.LeakCheck(Scope)
    (tmp_path / "left").touch()

    with pytest.raises(leaks.LeakError, match=r"files: .*left"):
        check.assert_clean(timeout=0.05)


def test_a_check_waits_for_what_is_on_its_way_out(monkeypatch):
    looks = iter([{}, {"pid": "qemu"}, {"pid": "qemu"}, {}])
    monkeypatch.setattr(inventory, "SOURCES", {"processes": lambda scope: next(looks)})

    leaks.LeakCheck(Scope).assert_clean(timeout=30)

    assert list(looks) == []


def test_a_kind_that_was_not_looked_at_is_not_judged(monkeypatch):
    monkeypatch.setattr(inventory, "SOURCES", {"processes": lambda scope: {}, "sockets": lambda scope: {"/s": "/s"}})
    scopes = iter([Scope(alone=False), Scope(alone=True)])

    check = leaks.LeakCheck(lambda: next(scopes))

    assert check.wait_clean(timeout=0) == {}
    assert check.judged == ["processes"]
