"""Contract of `shared_fs = "none"`: what is sent, what is followed, what the container asks for, what is told."""

from __future__ import annotations

import errno
import logging
import os
from pathlib import Path

import anyio
import pytest
from grpclib.const import Status

from agent_client.errors import AgentError
from protos.gen import grpc as agent_pb
from sandbox.errors import InvalidArgumentError
from sandbox.sharing import following
from sandbox.sharing.copying import CopyPlan, CopyShare
from sandbox.sharing.directory import SharedDirectory
from sandbox.volumes import ShareEntry
from tests.fakes.configmap import ConfigMap
from tests.fakes.guest_files import GuestFiles

pytestmark = pytest.mark.anyio

SHARED = "/run/kata-containers/shared/containers"
PATIENCE = 5.0


def entry(name: str, source: Path) -> ShareEntry:
    return ShareEntry(name, str(source), (), recursive=True)


@pytest.fixture
async def share(tmp_path: Path, no_mounts: list[tuple[str, str]]) -> CopyShare:
    made = CopyShare(SharedDirectory(tmp_path / "shared"))
    await made.start(1)
    return made


async def until(condition, what: str) -> None:
    with anyio.fail_after(PATIENCE):
        while not condition():
            await anyio.sleep(0.005)
    assert condition(), what


def test_the_vm_gets_no_device_and_the_guest_memory_of_its_own_for_the_copies(tmp_path: Path):
    plan = CopyPlan(tmp_path)
    assert plan.device is None
    assert plan.sandbox_storages == [
        agent_pb.Storage(
            driver="ephemeral", source="tmpfs", fstype="tmpfs", options=["mode=0755"], mount_point=f"{SHARED}/"
        )
    ]
    assert plan.drivers == {"ephemeral", "local"}


async def test_a_root_file_system_is_mounted_only_while_it_is_copied(
    share: CopyShare, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "rootfs" / "bin").mkdir(parents=True)
    (tmp_path / "rootfs" / "bin" / "sh").write_text("#!")
    place = tmp_path / "shared" / "c1" / "rootfs"

    def bind(source: Path, target: Path, **_: object) -> None:
        target.rmdir()
        target.symlink_to(source)
        target.unlink()
        source.rename(target)

    monkeypatch.setattr("sandbox.mounts.bind", bind)
    monkeypatch.setattr("sandbox.mounts.unmount", lambda target: target == place and place.rename(tmp_path / "rootfs"))
    guest = GuestFiles()
    await share.add_rootfs(guest, "c1", [], tmp_path / "rootfs")
    assert guest.read(f"{SHARED}/c1/rootfs/bin/sh") == b"#!"
    assert (tmp_path / "rootfs" / "bin").is_dir()
    assert list((tmp_path / "shared").iterdir()) == []


async def test_what_was_copied_goes_with_the_container(share: CopyShare, tmp_path: Path):
    (tmp_path / "rootfs").mkdir()
    (tmp_path / "volume").mkdir(mode=0o700)
    (tmp_path / "file").touch()
    guest = GuestFiles()
    await share.add_rootfs(guest, "c1", [], tmp_path / "rootfs")
    await share.add(guest, "c1", [entry("c1-aa-volume", tmp_path / "volume"), entry("c1-bb-file", tmp_path / "file")])
    assert share.storages("c1") == [
        agent_pb.Storage(
            driver="local", source="local", fstype="local", options=["mode=0755"], mount_point=f"{SHARED}/c1"
        ),
        agent_pb.Storage(
            driver="local", source="local", fstype="local", options=["mode=0700"], mount_point=f"{SHARED}/c1-aa-volume"
        ),
    ]
    await share.remove("c1")
    assert share.storages("c1") == []


async def test_copies_that_are_not_followed_are_told_in_one_line(
    share: CopyShare, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    for name in ("hosts", "resolv.conf"):
        (tmp_path / name).write_text(name)
    with caplog.at_level(logging.INFO):
        await share.add(GuestFiles(), "c1", [entry(f"c1-{n}", tmp_path / n) for n in ("hosts", "resolv.conf")])
    (line,) = caplog.messages
    assert line == (
        f"container c1 has copies, which do not follow changes on the host: {tmp_path}/hosts {tmp_path}/resolv.conf"
    )


async def test_what_could_not_be_copied_is_told(share: CopyShare, tmp_path: Path, caplog: pytest.LogCaptureFixture):
    (tmp_path / "volume").mkdir()
    os.mkfifo(tmp_path / "volume" / "fifo")
    await share.add(GuestFiles(), "c1", [entry("c1-volume", tmp_path / "volume")])
    assert f"{tmp_path}/volume of container c1 was copied into the guest without: fifo (1)" in caplog.messages


async def test_a_source_that_is_a_link_is_followed_and_one_that_is_not_there_named(share: CopyShare, tmp_path: Path):
    (tmp_path / "real").write_text("text")
    (tmp_path / "link").symlink_to("real")
    guest = GuestFiles()
    await share.add(guest, "c1", [entry("c1-link", tmp_path / "link")])
    assert guest.read(f"{SHARED}/c1-link") == b"text"
    with pytest.raises(InvalidArgumentError, match=r"mount source .*/gone: No such file or directory"):
        await share.add(guest, "c1", [entry("c1-gone", tmp_path / "gone")])


@pytest.mark.parametrize("has_inotify", [True, False])
async def test_a_config_map_is_followed_until_its_container_goes(
    share: CopyShare, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_inotify: bool
):
    monkeypatch.setattr(following, "POLL", 0.02)
    if not has_inotify:
        monkeypatch.setattr(following, "Bell", _no_inotify)
    source = ConfigMap(tmp_path / "conf", {"key": b"1"})
    guest = GuestFiles()
    async with anyio.create_task_group() as group:
        group.start_soon(share.serve, guest)
        await share.add(guest, "c1", [entry("c1-conf", source.directory)])
        for text in (b"2", b"3"):
            source.update({"key": text})
            await until(lambda text=text: guest.read(f"{SHARED}/c1-conf/key") == text, "the update arrives")
        await share.remove("c1")
        source.update({"key": b"4"})
        await share.add(guest, "c2", [entry("c2-conf", source.directory)])
        source.update({"key": b"5"})
        await until(lambda: guest.read(f"{SHARED}/c2-conf/key") == b"5", "the other container's arrives")
        await share.close(1)
    assert guest.read(f"{SHARED}/c1-conf/key") == b"3"


async def test_a_change_that_the_guest_did_not_take_is_sent_again(
    share: CopyShare, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr(following, "POLL", 0.02)
    source = ConfigMap(tmp_path / "conf", {"key": b"1"})
    guest = GuestFiles()
    async with anyio.create_task_group() as group:
        group.start_soon(share.serve, guest)
        await share.add(guest, "c1", [entry("c1-conf", source.directory)])
        guest.failures[f"{SHARED}/c1-conf/..data"] = AgentError("CopyFile", Status.RESOURCE_EXHAUSTED, "no space")
        source.update({"key": b"2"})
        await until(lambda: guest.read(f"{SHARED}/c1-conf/key") == b"2", "the update arrives")
        await share.close(1)
    assert any("did not reach the guest yet" in line and "no space" in line for line in caplog.messages)


async def test_closing_ends_it_also_when_nothing_was_ever_followed(share: CopyShare):
    with anyio.fail_after(PATIENCE):
        async with anyio.create_task_group() as group:
            group.start_soon(share.serve, GuestFiles())
            await anyio.lowlevel.checkpoint()
            await share.close(1)
        await share.close(1)
        await share.serve(GuestFiles())


def _no_inotify() -> None:
    raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
