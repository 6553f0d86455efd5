"""Bytecode, the bundle, and the launcher's importer that reads it."""

from __future__ import annotations

import importlib
import marshal
import sys
from pathlib import Path

import pytest

from guest.image import bytecode, launcher


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tree with a package of three modules; what it imports is forgotten afterwards."""
    home = tmp_path / "lib/bundled_sample"
    home.mkdir(parents=True)
    (home / "__init__.py").write_text("NAME = __name__\n")
    (home / "one.py").write_text("from bundled_sample import two\nVALUE = two.VALUE + 1\n")
    (home / "two.py").write_text("VALUE = 1\ndef fail():\n    raise ValueError('two')\n")
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    yield tmp_path
    for name in [name for name in sys.modules if name.startswith("bundled_sample")]:
        del sys.modules[name]


def test_sources_are_replaced_by_bytecode_that_python_imports_without_them(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bytecode.main([str(root), "all.bundle", "lib"])

    assert not list(root.rglob("*.py"))
    monkeypatch.syspath_prepend(str(root / "lib"))
    assert importlib.import_module("bundled_sample.one").VALUE == 2


def test_the_launchers_importer_loads_packages_and_modules_from_the_bundle(root: Path) -> None:
    bytecode.main([str(root), "all.bundle", "lib"])
    sys.meta_path.insert(0, launcher.BundleImporter(str(root / "all.bundle")))

    one = importlib.import_module("bundled_sample.one")

    package = sys.modules["bundled_sample"]
    assert one.VALUE == 2
    assert one.__file__ == "/lib/bundled_sample/one.py"
    assert one.__package__ == package.NAME == "bundled_sample"
    assert package.__path__ == ["/lib/bundled_sample"]
    assert isinstance(one.__loader__, launcher.BundleImporter)


def test_tracebacks_name_the_place_in_the_guest(root: Path) -> None:
    bytecode.main([str(root), "all.bundle", "lib"])
    sys.meta_path.insert(0, launcher.BundleImporter(str(root / "all.bundle")))
    two = importlib.import_module("bundled_sample.two")

    with pytest.raises(ValueError, match="two") as raised:
        two.fail()

    assert str(raised.traceback[-1].path) == "/lib/bundled_sample/two.py"
    assert raised.traceback[-1].lineno == 2


def test_what_is_not_in_the_bundle_is_left_to_others(root: Path) -> None:
    bytecode.main([str(root), "all.bundle", "lib"])
    importer = launcher.BundleImporter(str(root / "all.bundle"))

    assert importer.find_spec("json") is None
    with pytest.raises(ImportError, match="json"):
        importer.get_code("json")


def test_the_same_sources_give_the_same_bundle(tmp_path: Path) -> None:
    bundles = []
    for name in ("a", "b"):
        directory = tmp_path / name / "lib"
        directory.mkdir(parents=True)
        for module in sorted(("x", "y"), reverse=name == "b"):
            (directory / f"{module}.py").write_text(f"NAMES = frozenset({{'{module}', 'b', 'c'}})\n")
        bytecode.main([str(tmp_path / name), "all.bundle", "lib"])
        bundles.append((tmp_path / name / "all.bundle").read_bytes())

    assert bundles[0] == bundles[1]


def test_modules_that_the_interpreter_has_inside_are_not_bundled(tmp_path: Path) -> None:
    (tmp_path / "lib").mkdir()
    for name in ("os", "zipimport", "mine"):
        (tmp_path / "lib" / f"{name}.py").write_text("")

    bytecode.main([str(tmp_path), "all.bundle", "lib"])

    data = (tmp_path / "all.bundle").read_bytes()
    assert list(marshal.loads(data[4:])) == ["mine"]


def test_a_syntax_error_names_the_file(root: Path) -> None:
    (root / "lib/bundled_sample/bad.py").write_text("def (:\n")

    with pytest.raises(SyntaxError) as raised:
        bytecode.main([str(root), "all.bundle", "lib"])

    assert raised.value.filename == "/lib/bundled_sample/bad.py"


@pytest.mark.parametrize(
    ("path", "named"),
    [("a.py", ("a", False)), ("a/__init__.py", ("a", True)), ("a/b/c.py", ("a.b.c", False))],
)
def test_a_module_is_named_by_its_path(path: str, named: tuple[str, bool]) -> None:
    assert bytecode.module_name(Path(path)) == named
