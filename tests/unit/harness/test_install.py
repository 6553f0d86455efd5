"""Installing and removing: exactly what was installed goes, and what somebody wrote stays."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from hypervisor.template.store import KEY_LENGTH, MEMORY, STATE, TemplateStore
from tools import install, make_venv
from tools.layout import Layout, Manifest


@pytest.fixture
def layout(tmp_path):
    return Layout(tmp_path / "usr", None, tmp_path / "defaults")


@pytest.fixture
def guest(tmp_path, monkeypatch):
    directory = tmp_path / "guest"
    directory.mkdir()
    (directory / "vmlinux").write_bytes(b"kernel")
    monkeypatch.setattr(install, "GUEST", directory)
    monkeypatch.setattr(make_venv, "compile_trees", lambda *arguments, **keywords: None)
    return directory


def everything(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*")}


def test_a_linked_installation_leads_to_the_source_tree(layout, guest):
    install.link(layout)

    assert str(install.PROJECT) in layout.launcher.read_text()
    assert layout.launcher.stat().st_mode & 0o777 == 0o755
    assert "from ctl.main import main" in layout.control.read_text()
    assert f'kernel = "{guest}/' in layout.configuration.read_text()


def test_removing_leaves_nothing_of_a_linked_installation(layout, guest, tmp_path):
    before = everything(tmp_path)
    install.link(layout)

    install.uninstall(layout)

    assert everything(tmp_path) == before


def test_a_second_link_changes_nothing(layout, guest, tmp_path):
    install.link(layout)
    first = {path: path.stat().st_mtime_ns for path in (layout.launcher, layout.configuration)}

    install.link(layout)

    assert {path: path.stat().st_mtime_ns for path in first} == first


def test_a_configuration_that_was_changed_is_kept(layout, guest, capsys):
    install.link(layout)
    layout.configuration.write_text("# mine\n")

    install.uninstall(layout)

    assert layout.configuration.read_text() == "# mine\n"
    assert "kept" in capsys.readouterr().out


def test_somebody_elses_configuration_stays_and_ours_is_put_beside(layout, guest, capsys):
    layout.defaults.mkdir()
    layout.configuration.write_text("# theirs\n")
    manifest = Manifest(layout)

    install._install_configuration(layout, manifest, may_replace=manifest.owns(layout.configuration))

    assert layout.configuration.read_text() == "# theirs\n"
    assert layout.configuration_beside.exists()
    assert "stays" in capsys.readouterr().out


def test_what_others_put_into_our_directories_survives(layout, guest):
    install.link(layout)
    (layout.share / "theirs").write_text("x")

    install.uninstall(layout)

    assert (layout.share / "theirs").exists()
    assert not layout.manifest.exists()


def test_without_a_guest_the_error_says_what_to_run(layout, tmp_path, monkeypatch):
    monkeypatch.setattr(install, "GUEST", tmp_path / "none")

    with pytest.raises(install.InstallError, match="make guest"):
        install.link(layout)


def test_removing_what_is_not_there_is_an_error(layout):
    with pytest.raises(install.InstallError, match="nothing is installed"):
        install.uninstall(layout)


def test_destdir_is_where_files_go_and_not_what_they_say(guest, tmp_path):
    staged = Layout(Path("/opt/x"), tmp_path / "stage", Path("/opt/x/defaults"))

    install.link(staged)

    assert (tmp_path / "stage" / "opt" / "x" / "bin" / "containerd-shim-kata-v2").exists()
    assert (
        str(tmp_path / "stage")
        not in (tmp_path / "stage" / "opt" / "x" / "share" / "kata-shim" / "manifest.json").read_text()
    )


def test_the_configuration_of_the_usual_prefix_is_the_default_as_it_is():
    assert (
        install.configuration_text(install.DEFAULT_SHARE) == (install.PROJECT / "config" / "default.toml").read_text()
    )


def test_another_prefix_writes_out_every_path_of_the_guest():
    text = install.configuration_text("/opt/share")

    assert install.DEFAULT_SHARE not in text
    assert '\nkernel = "/opt/share/' in text
    assert '\ninitrd = "/opt/share/' in text
    assert '\nimage = "/opt/share/' in text


def test_dependencies_are_those_of_the_project_and_its_extras():
    pyproject = install.PROJECT / "pyproject.toml"

    own, all_of_them = make_venv.dependencies(pyproject), make_venv.dependencies(pyproject, ("dev",))

    assert any(line.startswith("anyio") for line in own)
    assert not any(line.startswith("pytest") for line in own)
    assert set(own) < set(all_of_them)


def test_the_stamp_changes_with_a_dependency_and_with_the_interpreter():
    stamps = {
        make_venv.stamp_of(["a"], "3.11"),
        make_venv.stamp_of(["a", "b"], "3.11"),
        make_venv.stamp_of(["a"], "3.12"),
    }

    assert len(stamps) == 3


@pytest.mark.parametrize("level", ["base", "run"])
def test_preflight_says_at_most_one_line(level):
    done = subprocess.run(["sh", "tools/preflight.sh", level], cwd=install.PROJECT, capture_output=True, timeout=60)

    assert done.returncode == 0
    assert done.stdout.count(b"\n") <= 1
    assert done.stderr == b""


def test_uninstalling_finds_the_templates_where_the_configuration_says_and_nothing_else(tmp_path):
    configuration, wanted = tmp_path / "configuration.toml", tmp_path / "templates"
    configuration.write_text(f'[factory]\ntemplate_path = "{wanted}"\n')
    for place in (wanted, tmp_path / "other"):
        place.mkdir(mode=0o700)
    assert install.template_stores(configuration, memory=tmp_path) == []

    (wanted / "lock").touch()

    assert install.template_stores(configuration, memory=tmp_path) == [wanted]


def template_in(store: Path) -> Path:
    """A store with one template, as the first pod's daemon leaves it."""
    key = "a" * KEY_LENGTH
    templates = TemplateStore(store, str, 60.0)
    with templates.building(key) as place:
        (place / MEMORY).write_bytes(b"memory")
        (place / STATE).write_bytes(b"state")
        templates.publish(key)
    return store / key


@pytest.mark.parametrize("where", ["configuration.toml", "config.d/50-mine.toml"])
def test_uninstalling_removes_the_templates(layout, guest, tmp_path, monkeypatch, where):
    monkeypatch.setattr(install, "ADMINISTRATORS", tmp_path / "etc" / "configuration.toml")
    template, theirs = template_in(tmp_path / "templates"), template_in(tmp_path / "theirs")
    install.link(layout)
    named = tmp_path / "etc" / where
    named.parent.mkdir(parents=True)
    named.write_text(f'[factory]\ntemplate_path = "{template.parent}"\n')

    install.uninstall(layout)

    assert not template.parent.exists()
    assert theirs.exists()


def test_removing_a_staged_installation_leaves_this_hosts_templates(guest, tmp_path, monkeypatch):
    monkeypatch.setattr(install, "ADMINISTRATORS", tmp_path / "etc.toml")
    template = template_in(tmp_path / "templates")
    (tmp_path / "etc.toml").write_text(f'[factory]\ntemplate_path = "{template.parent}"\n')
    staged = Layout(Path("/opt/x"), tmp_path / "stage", Path("/opt/x/defaults"))
    install.link(staged)

    install.uninstall(staged)

    assert template.exists()
