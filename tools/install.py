"""Installs the shim where containerd finds it, and removes exactly what it installed.

    install.py install --prefix /usr/local [--destdir D]   a whole installation: own environment, copies of everything
    install.py link --prefix build/prefix                  for development: the same layout, leading to the source tree
    install.py uninstall --prefix /usr/local [--destdir D]

What was installed is in a manifest (`PREFIX/share/kata-shim/manifest.json`), with the hash of each file: what was
changed since, as a configuration may be, is kept.
"""

from __future__ import annotations

import argparse
import re
import shutil
import sys
import tomllib
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from hypervisor.template.place import fallback, is_store
from shim.launcher import script
from tools import make_venv
from tools.layout import DEFAULTS, Layout, Manifest

PROJECT = Path(__file__).resolve().parent.parent
GUEST = PROJECT / "build" / "guest"

#: The administrator's configuration, which comes before ours.
ADMINISTRATORS = Path("/etc/kata-containers/configuration.toml")

#: Where the default configuration says that the guest is.
DEFAULT_SHARE = "/usr/share/kata-shim"

_GUEST_PATH = re.compile(rf'^#?(\w+ = "){re.escape(DEFAULT_SHARE)}/', re.MULTILINE)


class InstallError(Exception):
    """One line about what is in the way, and what to do."""


def packages() -> list[Path]:
    """The project's Python packages that are installed: pyproject.toml's list, as far as they exist."""
    settings = tomllib.loads((PROJECT / "pyproject.toml").read_text())
    names = settings["tool"]["setuptools"]["packages"]["find"]["include"]
    return [path for name in names if (path := PROJECT / name.rstrip("*")).is_dir()]


def configuration_text(share: str) -> str:
    """The commented default configuration, with the guest's paths in directory `share` written out."""
    text = (PROJECT / "config" / "default.toml").read_text()
    if share == DEFAULT_SHARE:
        return text
    return _GUEST_PATH.sub(lambda found: f"{found[1]}{share}/", text)


def install(layout: Layout) -> None:
    """A whole installation, in place of an older one of ours. Raises `InstallError`."""
    _require_guest()
    removed = Manifest(layout)
    keeps_configuration = removed.owns(layout.configuration)
    removed.remove()
    manifest = Manifest(layout)
    _install_library(layout, manifest)
    for source in sorted(GUEST.iterdir()):
        if source.is_file() and not source.name.startswith("."):
            _copy(source, layout.share / source.name, layout, manifest)
    _install_configuration(layout, manifest, may_replace=keeps_configuration)
    _install_programs(layout, manifest, str(layout.venv / "bin" / "python"), _site(layout))
    manifest.write()


def _install_programs(layout: Layout, manifest: Manifest, python: str, root: str) -> None:
    """What containerd runs, and what people run."""
    _write(layout.launcher, script(python, root), layout, manifest, mode=0o755)
    _write(layout.control, script(python, root, "ctl.main"), layout, manifest, mode=0o755)


def _site(layout: Layout) -> str:
    return str(layout.venv / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages")


def _install_library(layout: Layout, manifest: Manifest) -> None:
    """The environment with the dependencies, and our packages in it, compiled."""
    target = layout.at(layout.venv)
    if target.exists():
        shutil.rmtree(target)
    manifest.make_parents(layout.venv)
    requirements = make_venv.dependencies(PROJECT / "pyproject.toml")
    make_venv.make(target, requirements, installer=PROJECT / "build" / "venv" / "bin" / "python")
    _forget_destdir(target)
    site = layout.at(Path(_site(layout)))
    for package in packages():
        shutil.copytree(package, site / package.name, ignore=shutil.ignore_patterns("__pycache__", "*.proto"))
    make_venv.compile_trees(target / "bin" / "python", [site], strip=layout.destdir)
    manifest.add_tree(layout.venv)


def _forget_destdir(environment: Path) -> None:
    """Remove what names the directory we install to, which DESTDIR would make wrong, and which nobody needs."""
    for script_file in (environment / "bin").iterdir():
        if not script_file.name.startswith("python"):
            script_file.unlink()
    settings = environment / "pyvenv.cfg"
    kept = [line for line in settings.read_text().splitlines() if not line.startswith("command")]
    settings.write_text("\n".join(kept) + "\n")


def _install_configuration(layout: Layout, manifest: Manifest, *, may_replace: bool) -> None:
    """The default configuration; beside it under another name if there is one that somebody else wrote."""
    target = layout.configuration
    if layout.at(target).exists() and not may_replace:
        print(f"   {layout.at(target)} is not ours and stays; ours is {layout.configuration_beside.name} beside it")
        target = layout.configuration_beside
    _write(target, configuration_text(str(layout.share)), layout, manifest)


def link(layout: Layout) -> None:
    """The same places, leading to the source tree, `build/venv` and `build/guest`; written only where they differ."""
    _require_guest()
    manifest = Manifest(layout)
    python = PROJECT / "build" / "venv" / "bin" / "python"
    _install_programs(layout, manifest, str(python), str(PROJECT))
    _write(layout.configuration, configuration_text(str(GUEST)), layout, manifest)
    manifest.write()
    make_venv.compile_trees(python, packages())


def _require_guest() -> None:
    if not (GUEST.is_dir() and any(GUEST.iterdir())):
        raise InstallError(f"{GUEST} has no guest kernel and image: run make guest first")


def _write(path: Path, text: str, layout: Layout, manifest: Manifest, mode: int = 0o644) -> None:
    manifest.make_parents(path)
    target = layout.at(path)
    if not target.exists() or target.read_text() != text:
        target.write_text(text)
    target.chmod(mode)
    manifest.add(path)


def _copy(source: Path, path: Path, layout: Layout, manifest: Manifest) -> None:
    manifest.make_parents(path)
    shutil.copyfile(source, layout.at(path))
    manifest.add(path)


def uninstall(layout: Layout) -> None:
    """Remove what `install` made. Raises `InstallError` if there is no installation."""
    if not layout.at(layout.manifest).exists():
        raise InstallError(f"nothing is installed there: {layout.at(layout.manifest)} is missing")
    templates = [] if layout.destdir else template_stores(ADMINISTRATORS, layout.configuration)
    for path in Manifest(layout).remove():
        print(f"   kept, for it was changed: {path}")
    for store in templates:
        shutil.rmtree(store, ignore_errors=True)


def template_stores(*configurations: Path, memory: Path = Path("/dev/shm")) -> list[Path]:
    """Where VM templates may be: at each `template_path`, the default's too, and where they are if that is on a disk.

    Only directories that are root's alone, as the store demands: nothing else is one.
    """
    wanted = {Path("/run/vc/vm/template"): None}
    for configuration in configurations:
        for file in (configuration, *sorted(configuration.parent.glob("config.d/*.toml"))):
            try:
                found = tomllib.loads(file.read_text()).get("factory", {}).get("template_path")
                wanted |= {Path(found): None} if found else {}
            except (OSError, ValueError, TypeError, AttributeError):
                # What can't be read names no place.
                continue
    return [place for path in wanted for place in (path, fallback(path, memory)) if is_store(place)]


def parse(arguments: list[str] | None = None) -> tuple[str, Layout]:
    """The action and the places that the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("action", choices=("install", "link", "uninstall"))
    parser.add_argument("--prefix", type=Path, default=Path("/usr/local"))
    parser.add_argument("--destdir", type=Path)
    chosen = parser.parse_args(arguments)
    prefix = chosen.prefix.absolute()
    defaults = prefix / "share" / "defaults" / "kata-containers" if chosen.action == "link" else DEFAULTS
    return chosen.action, Layout(prefix, chosen.destdir and chosen.destdir.absolute(), defaults)


def main() -> int:
    """Do it; the result is the exit status."""
    action, layout = parse()
    try:
        {"install": install, "link": link, "uninstall": uninstall}[action](layout)
    except (InstallError, OSError) as error:
        print(f"{action}: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
