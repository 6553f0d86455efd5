"""The directory that the guest sees: what could not be mounted leaves nothing in it."""

from __future__ import annotations

import threading
from pathlib import Path

import anyio
import pytest

from sandbox.errors import InvalidArgumentError
from sandbox.interface import Mount
from sandbox.sharing.directory import SharedDirectory
from sandbox.volumes import ShareEntry

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("rootfs", [(Mount("bind", "/none/such", "", ("rbind",)),), ()])
async def test_a_root_file_system_that_is_missing_leaves_no_mount_point(
    tmp_path: Path, rootfs: tuple[Mount, ...]
) -> None:
    directory = SharedDirectory(tmp_path)
    for _ in range(2):
        with pytest.raises(InvalidArgumentError):
            directory.add_rootfs("c1", rootfs, tmp_path / "none")

        await directory.remove("c1")

        assert list(tmp_path.iterdir()) == []


async def test_several_mounts_on_a_root_file_system_are_all_undone(
    tmp_path: Path, no_mounts: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    unmounted: list[Path] = []
    monkeypatch.setattr("sandbox.mounts.unmount", unmounted.append)
    directory = SharedDirectory(tmp_path / "shared")
    layers = (Mount("overlay", "overlay"), Mount("tmpfs", "tmpfs"))
    directory.add_rootfs("c1", layers, tmp_path / "none")

    await directory.remove("c1")

    assert unmounted == [tmp_path / "shared" / "c1" / "rootfs"] * len(layers)
    assert len(no_mounts) == len(layers)


async def test_what_is_there_always_is_bound_first_and_undone_last(
    tmp_path: Path, no_mounts: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    bound: list[tuple[str, Path]] = []
    monkeypatch.setattr("sandbox.mounts.bind", lambda source, target, **_: bound.append((source, target)))
    place = tmp_path / "shared" / "sandbox-mounts" / "etc"
    directory = SharedDirectory(
        tmp_path / "shared", [ShareEntry("sandbox-mounts/etc", "/etc", ("ro",), recursive=True)]
    )

    directory.prepare()
    assert bound == [("/etc", place)]
    await directory.remove("c1")
    assert place.is_dir()
    await directory.close()

    assert not place.exists()


async def test_a_source_that_is_missing_is_told_with_the_key_that_names_it(
    tmp_path: Path, no_mounts: list[tuple[str, str]]
) -> None:
    directory = SharedDirectory(tmp_path / "shared", [ShareEntry("sandbox-mounts/x", "/no/x", ("ro",), recursive=True)])
    with pytest.raises(InvalidArgumentError, match="sandbox_bind_mounts: mount source /no/x: No such file"):
        directory.prepare()
    await directory.close()


async def test_a_source_that_no_path_can_be_is_refused(tmp_path: Path, no_mounts: list[tuple[str, str]]) -> None:
    directory = SharedDirectory(tmp_path / "shared")
    directory.prepare()

    with pytest.raises(InvalidArgumentError, match=r"mount source /a.b: embedded null byte"):
        directory.add("c1", ShareEntry("c1-x", "/a\0b", (), recursive=True))
    await directory.close()


async def test_an_unmount_that_waits_for_the_disk_holds_up_nobody_but_who_asked(
    tmp_path: Path, no_mounts: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    written, ends = threading.Event(), list[bool]()
    monkeypatch.setattr("sandbox.mounts.unmount", lambda path: ends.append(written.wait(20)))
    directory = SharedDirectory(tmp_path / "shared")
    directory.add_rootfs("c1", (Mount("overlay", "overlay"),), tmp_path / "none")

    async with anyio.create_task_group() as group:
        group.start_soon(directory.remove, "c1")
        await anyio.wait_all_tasks_blocked()
        group.cancel_scope.cancel()
        assert ends == []
        written.set()

    assert ends == [True]
    assert not (tmp_path / "shared" / "c1").exists()


async def test_who_asks_again_for_what_is_being_undone_returns_when_it_is(
    tmp_path: Path, no_mounts: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    written, ends, answers = threading.Event(), list[bool](), list[list[bool]]()
    monkeypatch.setattr("sandbox.mounts.unmount", lambda path: ends.append(written.wait(20)))
    directory = SharedDirectory(tmp_path / "shared")
    directory.add_rootfs("c1", (Mount("overlay", "overlay"),), tmp_path / "none")

    async def ask_again() -> None:
        await directory.remove("c1")
        answers.append(list(ends))

    async with anyio.create_task_group() as group:
        group.start_soon(directory.remove, "c1")
        await anyio.wait_all_tasks_blocked()
        group.start_soon(ask_again)
        await anyio.wait_all_tasks_blocked()
        assert answers == []
        written.set()

    assert answers == [[True]]
