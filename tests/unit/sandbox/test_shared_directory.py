"""The directory that the guest sees: what could not be mounted leaves nothing in it."""

from __future__ import annotations

from pathlib import Path

import pytest

from sandbox.errors import InvalidArgumentError
from sandbox.interface import Mount
from sandbox.sharing.directory import SharedDirectory
from sandbox.volumes import ShareEntry


@pytest.mark.parametrize("rootfs", [(Mount("bind", "/none/such", "", ("rbind",)),), ()])
def test_a_root_file_system_that_is_missing_leaves_no_mount_point(tmp_path: Path, rootfs: tuple[Mount, ...]) -> None:
    directory = SharedDirectory(tmp_path)
    for _ in range(2):
        with pytest.raises(InvalidArgumentError):
            directory.add_rootfs("c1", rootfs, tmp_path / "none")

        directory.remove("c1")

        assert list(tmp_path.iterdir()) == []


def test_several_mounts_on_a_root_file_system_are_all_undone(
    tmp_path: Path, no_mounts: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    unmounted: list[Path] = []
    monkeypatch.setattr("sandbox.mounts.unmount", unmounted.append)
    directory = SharedDirectory(tmp_path / "shared")
    layers = (Mount("overlay", "overlay"), Mount("tmpfs", "tmpfs"))
    directory.add_rootfs("c1", layers, tmp_path / "none")

    directory.remove("c1")

    assert unmounted == [tmp_path / "shared" / "c1" / "rootfs"] * len(layers)
    assert len(no_mounts) == len(layers)


def test_what_is_there_always_is_bound_first_and_undone_last(
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
    directory.remove("c1")
    assert place.is_dir()
    directory.close()

    assert not place.exists()


def test_a_source_that_is_missing_is_told_with_the_key_that_names_it(
    tmp_path: Path, no_mounts: list[tuple[str, str]]
) -> None:
    directory = SharedDirectory(tmp_path / "shared", [ShareEntry("sandbox-mounts/x", "/no/x", ("ro",), recursive=True)])
    with pytest.raises(InvalidArgumentError, match="sandbox_bind_mounts: mount source /no/x: No such file"):
        directory.prepare()
    directory.close()
