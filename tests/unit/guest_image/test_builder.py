"""The whole builder with packages, compiler and packer replaced: what is built when."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from guest.image import application, builder, contents, kernel, modules, rootfs, store, tools, tree
from guest.image.__main__ import main
from guest.image.errors import BuildError
from guest.image.packages import Apt, Lock, Package

Make = Callable[..., bytes]
PACKAGED = {"usr/bin/busybox": tree.file(b"busybox", 0o755)}


class World:
    """What the faked edges answer, and how often they were asked."""

    def __init__(self) -> None:
        self.version = "1"
        self.resolved = 0
        self.packed = 0
        self.fail: str | None = None
        self.sources = {"guest/agent/main.py": b"one"}

    def resolve(self, apt: Apt) -> Lock:
        self.resolved += 1
        apt.archives.mkdir(parents=True, exist_ok=True)
        (apt.archives / "linux.deb").touch()
        return Lock("bookworm", "linux", (Package("linux", self.version, "linux.deb", "0"),))

    def pack(self, root: Path, image: Path) -> None:
        if self.fail:
            raise BuildError(self.fail)
        self.packed += 1
        image.write_bytes(b"image of " + (root / application.HOME / "guest/agent/main.py").read_bytes())


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch, make_module: Make) -> World:
    faked = World()
    files = {f"usr/lib/modules/6.1/kernel/{name}.ko": tree.file(make_module()) for name in modules.BOOT_MODULES}
    files |= {"usr/lib/modules/6.1/modules.builtin": tree.file(b""), "boot/vmlinuz-6.1": tree.file(b"bzImage")}
    package = builder.kernel_package(files)
    monkeypatch.setattr(Apt, "resolve", lambda apt: faked.resolve(apt))
    monkeypatch.setattr(builder, "_unpack", lambda apt, lock: (PACKAGED, package))
    monkeypatch.setattr(application, "sources", lambda project: dict(faked.sources))
    monkeypatch.setattr(contents, "select", lambda packaged, beside: packaged)
    monkeypatch.setattr(kernel, "unpack", lambda bzimage: b"vmlinux")
    monkeypatch.setattr(rootfs, "compile_python", lambda root: None)
    monkeypatch.setattr(rootfs, "check_imports", lambda root: None)
    monkeypatch.setattr(rootfs, "pack", faked.pack)
    monkeypatch.setattr(tools, "require_all", lambda: None)
    return faked


def test_the_first_build_makes_everything(world: World, tmp_path: Path) -> None:
    guest = builder.build(tmp_path)

    assert guest.fresh
    assert (tmp_path / store.KERNEL).read_bytes() == b"vmlinux"
    assert (tmp_path / store.IMAGE).read_bytes() == b"image of one"
    assert (tmp_path / store.INITRD).read_bytes().startswith(b"070701")


def test_the_second_build_does_nothing_and_asks_nobody(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = builder.build(tmp_path)
    monkeypatch.setattr(tools, "run", lambda *_, **__: pytest.fail("a program was run"))

    second = builder.build(tmp_path)

    assert (second.directory, second.fresh) == (first.directory, False)
    assert (world.resolved, world.packed) == (1, 1)


def test_a_changed_agent_is_built_with_the_same_packages(world: World, tmp_path: Path) -> None:
    first = builder.build(tmp_path)
    world.sources = {"guest/agent/main.py": b"two"}

    second = builder.build(tmp_path)

    assert second.key != first.key
    assert world.resolved == 1
    assert (tmp_path / store.IMAGE).read_bytes() == b"image of two"


def test_going_back_to_an_earlier_agent_builds_nothing(world: World, tmp_path: Path) -> None:
    builder.build(tmp_path)
    world.sources = {"guest/agent/main.py": b"two"}
    builder.build(tmp_path)
    world.sources = {"guest/agent/main.py": b"one"}

    assert not builder.build(tmp_path).fresh
    assert (tmp_path / store.IMAGE).read_bytes() == b"image of one"


def test_newer_packages_are_taken_on_refresh_only(world: World, tmp_path: Path) -> None:
    first = builder.build(tmp_path)
    world.version = "2"

    assert builder.build(tmp_path).key == first.key
    assert builder.build(tmp_path, refresh=True).key != first.key


def test_a_lost_package_is_fetched_again_when_it_is_needed(world: World, tmp_path: Path) -> None:
    builder.build(tmp_path)
    (tmp_path / "apt/archives/linux.deb").unlink()
    world.sources = {"guest/agent/main.py": b"two"}

    builder.build(tmp_path)

    assert world.resolved == 2


def test_a_failed_build_leaves_the_guest_before_it_and_no_rest(world: World, tmp_path: Path) -> None:
    builder.build(tmp_path)
    world.sources = {"guest/agent/main.py": b"two"}
    world.fail = "mkfs.erofs failed with status 1: no space"

    with pytest.raises(BuildError, match="no space"):
        builder.build(tmp_path)

    assert (tmp_path / store.IMAGE).read_bytes() == b"image of one"
    assert len(list((tmp_path / "cache").iterdir())) == 1


def test_the_command_prints_the_directory_and_tells_a_failure_in_one_line(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--out", str(tmp_path)]) == 0
    assert capsys.readouterr().out.strip() == str((tmp_path / store.KERNEL).resolve().parent)
    world.fail = "the reason"
    world.sources = {"guest/agent/main.py": b"two"}

    assert main(["--out", str(tmp_path)]) == 1

    assert capsys.readouterr().err.splitlines()[-1] == "guest: cannot build: the reason"


def test_a_package_without_a_kernel_is_refused() -> None:
    with pytest.raises(BuildError, match="0 kernels"):
        builder.kernel_package({})


def test_a_kernel_without_readable_modules_is_refused() -> None:
    with pytest.raises(BuildError, match=r"no modules of 6\.1"):
        builder.kernel_package({"boot/vmlinuz-6.1": tree.file(b"")})
