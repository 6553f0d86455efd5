"""The executable's text, and the places that are imported from."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from shim import launcher, paths

PROJECT = Path(__file__).resolve().parents[3]


def test_the_script_runs_isolated_and_names_its_root() -> None:
    lines = launcher.script("/opt/venv/bin/python", "/opt/lib").splitlines()

    assert lines[0] == "#!/opt/venv/bin/python -IS"
    assert "'/opt/lib'" in lines[2]


@pytest.mark.parametrize(
    ("python", "root"),
    [("python", "/opt"), ("/opt/python", "lib"), ("/opt/a b/python", "/opt"), ("/" + "x" * 130, "/")],
)
def test_a_script_that_could_not_run_is_refused(python: str, root: str) -> None:
    with pytest.raises(ValueError, match="path"):
        launcher.script(python, root)


def test_the_roots_are_ours_and_the_environments() -> None:
    roots = paths.import_roots()

    assert roots[0] == str(PROJECT)
    assert any((Path(root) / "anyio").is_dir() for root in roots)
    assert len(set(roots)) == len(roots)


def test_the_daemons_libraries_are_found_in_an_isolated_interpreter() -> None:
    code = (
        f"import sys; sys.path.insert(0, {str(PROJECT)!r}); from shim.paths import add_import_roots;"
        "add_import_roots(); import anyio, uvloop, betterproto2; print(anyio.__name__)"
    )

    done = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, timeout=30)

    assert done.stdout == "anyio\n", done.stderr


def test_another_program_of_the_project_has_a_launcher_too():
    lines = launcher.script("/opt/venv/bin/python", "/opt/lib", "ctl.main").splitlines()

    assert "from ctl.main import main" in lines
