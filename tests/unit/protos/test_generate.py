"""The generated trees are what the sources say, and the command notices when they are not."""

from __future__ import annotations

from pathlib import Path

import pytest

from protos import generate
from protos.lean.generator.descriptors import UnsupportedError


def test_generated_files_are_up_to_date(capsys):
    assert generate.main(["--check"]) == 0, capsys.readouterr().out


@pytest.fixture
def package(tmp_path: Path) -> Path:
    generate.write({Path("gen/a.py"): "a\n", Path("gen/b/c.pyi"): "c\n", Path("lean/gen/d.py"): "d\n"}, tmp_path)
    return tmp_path


def test_changed_missing_and_surplus_files_are_named(package):
    tree = {Path("gen/a.py"): "changed\n", Path("gen/b/c.pyi"): "c\n", Path("lean/gen/new.py"): ""}
    named = generate.stale_files(tree, package)
    assert named == [Path("gen/a.py"), Path("lean/gen/d.py"), Path("lean/gen/new.py")]


def test_writing_leaves_nothing_stale_and_touches_nothing_else(package):
    tree = {Path("gen/a.py"): "changed\n", Path("gen/b/c.pyi"): "c\n", Path("lean/gen/new.py"): ""}
    kept, untouched = package / "gen/b/c.pyi", package / "other.py"
    untouched.write_text("mine\n")
    inode = kept.stat().st_mtime_ns
    generate.write(tree, package)
    assert generate.stale_files(tree, package) == []
    assert kept.stat().st_mtime_ns == inode
    assert untouched.read_text() == "mine\n"


def test_check_writes_nothing_and_fails(monkeypatch, capsys, package):
    monkeypatch.setattr(generate, "PACKAGE", package)
    monkeypatch.setattr(generate, "render", lambda: {Path("gen/a.py"): "changed\n"})
    assert generate.main(["--check"]) == 1
    assert "stale: protos/gen/a.py" in capsys.readouterr().out
    assert (package / "gen/a.py").read_text() == "a\n"
    assert generate.main([]) == 0
    assert (package / "gen/a.py").read_text() == "changed\n"


def _sources(folder: Path, monkeypatch: pytest.MonkeyPatch, body: str) -> None:
    file = folder / "wellknown" / "wellknown.proto"
    file.parent.mkdir()
    file.write_text(f'syntax = "proto3";\npackage wellknown;\n{body}\n')
    monkeypatch.setattr(generate, "SOURCES", folder)
    monkeypatch.setattr("protos.lean.generator.modules.PACKAGES", ("wellknown",))


def test_a_faulty_source_is_an_error_with_what_protoc_said(tmp_path, monkeypatch):
    _sources(tmp_path, monkeypatch, "message M { nonsense }")
    with pytest.raises(generate.GenerationError, match=r"wellknown\.proto"):
        generate.render()


@pytest.mark.parametrize(
    "body",
    [
        "message M { sint32 a = 1; }",
        "message M { map<int32, string> a = 1; }",
        "message M { oneof one { string a = 1; string b = 2; } }",
        "message M {} service S { rpc R(stream M) returns (M); }",
    ],
)
def test_features_that_lean_messages_lack_are_refused(tmp_path, monkeypatch, body):
    _sources(tmp_path, monkeypatch, body)
    with pytest.raises(UnsupportedError):
        generate.render()


def test_the_import_of_googles_runtime_is_dropped(tmp_path, monkeypatch):
    _sources(tmp_path, monkeypatch, "message Descriptor { string name = 1; }")
    text = generate.render()[Path("gen/wellknown/__init__.py")]
    assert "class Descriptor(betterproto2.Message)" in text
    assert "google" not in text
