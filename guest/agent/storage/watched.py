"""The watchable-bind driver: a copy in the guest's memory of a small volume on the host's share, kept up to date.

Programs in a container can watch the copy by inotify, which sees nothing of what happens behind a share. The agent
itself follows the source by inotify where that works, and by looking at it every second where the source is the host's.
A volume too large to be copied is bound as it is.
"""

from __future__ import annotations

import asyncio
import os
import stat
from typing import TYPE_CHECKING

from guest.agent.beneath import by_fd, open_path, remove_tree
from guest.agent.errors import failed
from guest.agent.layout import Layout
from guest.agent.log import log
from guest.agent.mountopts import MountOptions
from guest.agent.names import is_beneath
from guest.agent.storage import shares
from guest.agent.storage.context import DriverContext, Undo, blocking, in_turn, quick
from guest.agent.storage.inotify import Inotify
from guest.agent.storage.mirror import ChangedError, Mirror, TooLargeError
from guest.agent.storage.mounting import mount_in, take_down

if TYPE_CHECKING:
    from protos.lean.gen.grpc import Storage

#: Seconds between two looks at a source whose changes nobody tells; the share's own cache adds up to one more.
POLL_SECONDS = 1.0
#: Seconds for a change to be complete before it is copied.
SETTLE_SECONDS = 0.05
#: Seconds for a copy under way to end when it isn't wanted any more.
STOP_SECONDS = 5.0
#: File systems whose content changes without the guest's doing.
REMOTE = frozenset({"virtiofs", "fuse", "9p", "nfs", "nfs4"})
#: Where Kata's runtime puts the copies: in the share, so a tmpfs must hide it before anything is made there.
_KATA_DIRECTORY = "watchable"


async def attach_watched(storage: Storage, mount_point: str, context: DriverContext) -> Undo:
    """Copy the source, a file or directory in Kata's tree, and follow it until the undoing."""
    layout = context.layout
    fd = open_path(layout.shared_run, storage.source, "watchable source")
    undos: list[Undo] = [quick(lambda: os.close(fd))]
    try:
        _hide_kata_directory(layout, mount_point)
        place = _make_place(layout)
        undos.insert(0, blocking(lambda: remove_tree(place)))
        is_directory = stat.S_ISDIR(os.fstat(fd).st_mode)
        # A directory is followed whatever becomes of its name; a file's name, whatever it comes to mean.
        mirror = Mirror(f"{by_fd(fd)}/." if is_directory else storage.source, f"{place}/copy")
        if await asyncio.to_thread(_first_copy, mirror, storage.source):
            _bind_copy(layout, f"{place}/copy", mount_point)
            follower = Follower(mirror, storage.source, _is_remote(layout, storage.source))
            follower.task = context.work.background(follower.run())
            undos.insert(0, follower.stop)
        else:
            shares.bind_fd(layout, fd, mount_point, storage.options)
        undos.insert(0, quick(lambda: take_down(layout, mount_point)))
    except BaseException:
        await in_turn(*undos)()
        raise
    return in_turn(*undos)


class Follower:
    """Keeps one copy up to date until `stop`."""

    def __init__(self, mirror: Mirror, name: str, remote: bool) -> None:
        self._mirror = mirror
        self._name = name
        self._remote = remote
        self._update: asyncio.Future[bool] | None = None
        self._complaint = ""
        #: Runs `run`.
        self.task: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Follow the source; ends by itself only if it grows too large."""
        try:
            if not self._remote:
                await self._follow_events()
            while True:
                await asyncio.sleep(POLL_SECONDS)
                await self._try_update()
        except TooLargeError as error:
            log.warning("%s is not followed any more: %s", self._name, error)

    async def stop(self) -> None:
        """Follow no more; a copy under way is waited for."""
        if self.task is not None:
            self.task.cancel()
        if self._update is not None:
            await asyncio.wait({self._update}, timeout=STOP_SECONDS)

    async def _follow_events(self) -> None:
        """Look when the kernel says that something has happened; returns if it can't say so."""
        try:
            inotify = Inotify()
        except OSError as error:
            log.info("%s is followed by looking: %s", self._name, error.strerror)
            return
        try:
            while True:
                inotify.watch(self._mirror.directories)
                # What happened before the watch was set is seen by looking.
                if await self._try_update():
                    continue
                await inotify.wait()
                await asyncio.sleep(SETTLE_SECONDS)
        except OSError as error:
            log.info("%s is followed by looking: %s", self._name, error.strerror)
        finally:
            inotify.close()

    async def _try_update(self) -> bool:
        """Whether to look again soon: something has changed, or could not be copied as it is being changed."""
        self._update = asyncio.ensure_future(asyncio.to_thread(self._mirror.update))
        try:
            changed = await asyncio.shield(self._update)
        except ChangedError:
            await asyncio.sleep(SETTLE_SECONDS)
            return True
        except OSError as error:
            self._complain(f"{self._name} can't be read: {error.strerror}")
            await asyncio.sleep(POLL_SECONDS)
            return True
        self._complaint = ""
        return changed

    def _complain(self, text: str) -> None:
        """Say a thing once, not every second."""
        if text != self._complaint:
            log.warning("%s", text)
        self._complaint = text


def _first_copy(mirror: Mirror, name: str) -> bool:
    """Copy the source; False if it is too large for that."""
    for _ in range(10):
        try:
            mirror.update()
            return True
        except ChangedError:
            continue
        except TooLargeError as error:
            log.warning("%s is bound, not copied, and its changes can't be watched: %s", name, error)
            return False
        except OSError as error:
            raise failed(f"copy {name}", error) from error
    raise failed(f"copy {name}", OSError("it never stands still"))


def _make_place(layout: Layout) -> str:
    place = f"{layout.state}/watched/{os.urandom(8).hex()}"
    try:
        os.makedirs(place)
    except OSError as error:
        raise failed(f"make {place}", error) from error
    return place


def _bind_copy(layout: Layout, copy: str, mount_point: str) -> None:
    fd = os.open(copy, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        shares.bind_fd(layout, fd, mount_point, [])
    finally:
        os.close(fd)


def _hide_kata_directory(layout: Layout, mount_point: str) -> None:
    """Mount a tmpfs on Kata's directory of copies, if the copy is to be there; it stays as long as the sandbox."""
    directory = f"{layout.shared_containers}/{_KATA_DIRECTORY}"
    if is_beneath(mount_point, directory) and not shares.is_mounted(layout, "tmpfs", _KATA_DIRECTORY, directory):
        mount_in(layout, _KATA_DIRECTORY, directory, "tmpfs", MountOptions(data="mode=755"))


def _is_remote(layout: Layout, path: str) -> bool:
    """Whether the file system that holds `path` is one of the host."""
    best = ("", "")
    for mount_point, fstype, _ in shares.mounts(layout):
        covers = mount_point == "/" or path == mount_point or is_beneath(path, mount_point)
        if covers and len(mount_point) >= len(best[0]):
            best = (mount_point, fstype)
    return best[1] in REMOTE or best[1].startswith("fuse.")
