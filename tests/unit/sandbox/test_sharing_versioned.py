"""Contract: a ConfigMap's copy is one version or the other, and ends up at the last one."""

from __future__ import annotations

from pathlib import Path

import pytest
from grpclib.const import Status

from agent_client.errors import AgentError
from sandbox.sharing.versioned import VersionedVolume, is_versioned
from tests.fakes.configmap import ConfigMap
from tests.fakes.guest_files import GuestFiles

pytestmark = pytest.mark.anyio

TARGET = "/run/kata-containers/shared/containers/c1-0123-conf"


@pytest.fixture
def source(tmp_path: Path) -> ConfigMap:
    return ConfigMap(tmp_path / "conf", {"a": b"a1", "b": b"b1"})


@pytest.fixture
def volume(source: ConfigMap) -> VersionedVolume:
    return VersionedVolume(source.directory, TARGET)


def test_a_volume_is_known_by_its_link(source: ConfigMap, tmp_path: Path):
    assert is_versioned(source.directory)
    assert not is_versioned(tmp_path)
    assert not is_versioned(tmp_path / "nothing")
    assert not is_versioned(source.directory / "a")


async def test_the_copy_reads_like_the_volume_and_follows_it(source: ConfigMap, volume: VersionedVolume):
    guest = GuestFiles()
    assert volume.has_changed()
    await volume.send(guest)
    assert not volume.has_changed()
    assert (guest.read(f"{TARGET}/a"), guest.read(f"{TARGET}/b")) == (b"a1", b"b1")
    source.update({"a": b"a2", "b": b"b1", "c": b"c2"})
    assert volume.has_changed()
    await volume.send(guest)
    assert [guest.read(f"{TARGET}/{name}") for name in "abc"] == [b"a2", b"b1", b"c2"]


async def test_the_link_moves_when_the_version_it_names_is_there(source: ConfigMap, volume: VersionedVolume):
    guest = GuestFiles()
    await volume.send(guest)
    guest.order.clear()
    source.update({"a": b"a2", "b": b"b2"})
    await volume.send(guest)
    version = (source.directory / "..data").readlink()
    at = guest.order.index(f"{TARGET}/..data")
    assert all(guest.order.index(f"{TARGET}/{version}/{name}") < at for name in "ab")


async def test_a_version_that_is_gone_is_emptied(source: ConfigMap, volume: VersionedVolume):
    guest = GuestFiles()
    await volume.send(guest)
    old = (source.directory / "..data").readlink()
    source.update({"a": b"a2"})
    await volume.send(guest)
    assert guest.entries[f"{TARGET}/{old}/a"].data == b""
    assert not any(file.data in (b"a1", b"b1") for file in guest.entries.values())


async def test_what_did_not_change_is_not_sent_again(source: ConfigMap, volume: VersionedVolume):
    guest = GuestFiles()
    await volume.send(guest)
    guest.order.clear()
    await volume.send(guest)
    assert guest.order == []


async def test_a_change_that_failed_is_still_a_change(source: ConfigMap, volume: VersionedVolume):
    guest = GuestFiles()
    await volume.send(guest)
    source.update({"a": b"a2", "b": b"b2"})
    guest.failures[f"{TARGET}/..data"] = AgentError("CopyFile", Status.UNAVAILABLE, "gone", lost=True)
    with pytest.raises(AgentError):
        await volume.send(guest)
    assert guest.read(f"{TARGET}/a") == b"a1"
    assert volume.has_changed()
    await volume.send(guest)
    assert guest.read(f"{TARGET}/a") == b"a2"


async def test_a_volume_that_is_gone_has_not_changed(source: ConfigMap, volume: VersionedVolume):
    guest = GuestFiles()
    await volume.send(guest)
    source.directory.rename(source.directory.with_name("elsewhere"))
    assert not volume.has_changed()
    await volume.send(guest)
    assert guest.read(f"{TARGET}/a") == b"a1"
