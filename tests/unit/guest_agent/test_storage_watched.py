"""The watchable-bind driver: the copy follows by inotify, or by looking, until it is taken away."""

from __future__ import annotations

import asyncio
import os

import pytest

from guest.agent.errors import InvalidArgumentError, NotFoundError
from guest.agent.storage import mirror, mounting, shares, watched
from protos.lean.gen.grpc import Storage

pytestmark = pytest.mark.anyio


@pytest.fixture
def bound(monkeypatch):
    """What is bound where, in place of mounts; a tmpfs is noted too."""
    places = {}

    def mount(source, target, fstype, flags=0, data=""):
        places[os.readlink(target)] = os.readlink(source) if source.startswith("/proc/self/fd") else fstype

    monkeypatch.setattr(mounting.kernel, "mount", mount)
    monkeypatch.setattr(mounting.kernel, "unmount", lambda target, flags=0: places.pop(target))
    return places


@pytest.fixture
def volume(layout):
    place = f"{layout.shared_containers}/volume"
    os.makedirs(place)
    write(f"{place}/key", "old")
    return place


def write(path, text):
    with open(path, "w") as file:
        file.write(text)


def read(path):
    try:
        with open(path) as file:
            return file.read()
    except FileNotFoundError:
        return None


async def until(condition):
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.001)


def as_remote(layout):
    os.makedirs(f"{layout.proc}/self", exist_ok=True)
    write(
        f"{layout.proc}/self/mountinfo",
        f"1 1 0:1 / / rw - erofs /dev/vda ro\n2 1 0:2 / {layout.shared_containers} rw - virtiofs kataShared rw\n",
    )


@pytest.mark.parametrize("remote", [False, True])
async def test_a_directory_is_copied_and_followed(context, layout, bound, volume, remote, monkeypatch):
    monkeypatch.setattr(watched, "POLL_SECONDS", 0.01)
    if remote:
        as_remote(layout)
    place = f"{layout.sandbox}/config"

    undo = await watched.attach_watched(Storage(source=volume), place, context)
    copy = bound[place]
    assert copy.startswith(layout.state)
    assert read(f"{copy}/key") == "old"

    write(f"{volume}/key", "newer")
    await until(lambda: read(f"{copy}/key") == "newer")
    os.makedirs(f"{volume}/sub")
    write(f"{volume}/sub/key", "deep")
    await until(lambda: read(f"{copy}/sub/key") == "deep")
    os.unlink(f"{volume}/key")
    await until(lambda: not os.path.exists(f"{copy}/key"))
    await undo()

    assert bound == {}
    assert os.listdir(f"{layout.state}/watched") == []


@pytest.mark.parametrize("remote", [False, True])
async def test_a_file_is_followed_by_its_name(context, layout, bound, volume, remote, monkeypatch):
    monkeypatch.setattr(watched, "POLL_SECONDS", 0.01)
    if remote:
        as_remote(layout)
    place = f"{layout.sandbox}/single"

    undo = await watched.attach_watched(Storage(source=f"{volume}/key"), place, context)
    copy = bound[place]
    for text in ("second", "the third"):
        write(f"{volume}/part", text)
        os.rename(f"{volume}/part", f"{volume}/key")
        await until(lambda text=text: read(copy) == text)
    await undo()

    assert os.listdir(f"{layout.state}/watched") == []


async def test_where_the_kernel_can_watch_no_more_the_source_is_looked_at(context, layout, bound, volume, monkeypatch):
    def refuse(self, paths):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(watched, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(watched.Inotify, "watch", refuse)
    place = f"{layout.sandbox}/config"
    undo = await watched.attach_watched(Storage(source=volume), place, context)
    copy = bound[place]

    write(f"{volume}/key", "newer")
    await until(lambda: read(f"{copy}/key") == "newer")

    await undo()


async def test_what_is_too_large_is_bound_as_it_is(context, layout, bound, volume, monkeypatch):
    monkeypatch.setattr(mirror, "MAX_BYTES", 1)
    place = f"{layout.sandbox}/config"

    undo = await watched.attach_watched(Storage(source=volume), place, context)

    assert bound == {place: volume}
    await undo()
    assert bound == {}


async def test_a_source_that_vanishes_leaves_the_last_copy(context, layout, bound, volume, monkeypatch, caplog):
    monkeypatch.setattr(watched, "POLL_SECONDS", 0.01)
    as_remote(layout)
    undo = await watched.attach_watched(Storage(source=f"{volume}/key"), f"{layout.sandbox}/single", context)
    copy = bound[f"{layout.sandbox}/single"]

    os.unlink(f"{volume}/key")
    await until(lambda: "can't be read" in caplog.text)
    assert read(copy) == "old"
    write(f"{volume}/key", "back again")
    await until(lambda: read(copy) == "back again")

    await undo()
    assert caplog.text.count("can't be read") == 1


async def test_katas_own_place_for_copies_is_hidden_by_memory(context, layout, bound, volume):
    place = f"{layout.shared_containers}/watchable/c1-key"

    undo = await watched.attach_watched(Storage(source=volume), place, context)

    assert bound[f"{layout.shared_containers}/watchable"] == "tmpfs"
    await undo()


@pytest.mark.parametrize("source", ["/etc", "", "/run/kata-agent"])
async def test_a_source_outside_of_katas_tree_is_refused(context, layout, bound, source):
    with pytest.raises(InvalidArgumentError):
        await watched.attach_watched(Storage(source=source), f"{layout.sandbox}/x", context)


async def test_a_source_that_is_a_link_is_refused(context, layout, bound, volume):
    os.symlink("/etc", f"{layout.shared_containers}/link")

    with pytest.raises(InvalidArgumentError):
        await watched.attach_watched(Storage(source=f"{layout.shared_containers}/link"), f"{layout.sandbox}/x", context)


async def test_a_source_that_is_not_there_is_named(context, layout, bound):
    with pytest.raises(NotFoundError, match="none"):
        await watched.attach_watched(Storage(source=f"{layout.shared_containers}/none"), f"{layout.sandbox}/x", context)


async def test_a_bind_that_fails_leaves_no_copy_and_no_descriptor(context, layout, volume, monkeypatch):
    def mount(*arguments):
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(mounting.kernel, "mount", mount)
    before = os.listdir("/proc/self/fd")

    with pytest.raises(Exception, match="Operation not permitted"):
        await watched.attach_watched(Storage(source=volume), f"{layout.sandbox}/x", context)

    assert os.listdir(f"{layout.state}/watched") == []
    assert len(os.listdir("/proc/self/fd")) == len(before)


def test_a_path_is_the_hosts_if_its_nearest_mount_is(layout):
    as_remote(layout)

    assert watched._is_remote(layout, f"{layout.shared_containers}/c1")
    assert not watched._is_remote(layout, layout.sandbox)
    assert shares.is_mounted(layout, "virtiofs", "kataShared", layout.shared_containers)
