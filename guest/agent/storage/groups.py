"""The group of a volume, which shares it: the change of a whole tree.

A pod's `fsGroup` owns the volume and all in it, may read it and (unless it is read-only) write it, and new files get
that group by the directories' setgid bit. The rules are Kubernetes', as Kata's agent has them.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING

from guest.agent.beneath import by_fd, open_directory
from guest.agent.errors import InvalidArgumentError, failed
from guest.agent.layout import Layout
from guest.agent.log import log
from protos.lean.gen.types import FsGroupChangePolicy

if TYPE_CHECKING:
    from protos.lean.gen.grpc import FsGroup

READ_WRITE, READ_ONLY, ENTER = 0o660, 0o440, 0o110
SET_GROUP_ID = 0o2000


def give(layout: Layout, mount_point: str, group: FsGroup, read_only: bool) -> None:
    """Give a mounted volume to its group, by its policy. May take long; raises `InternalError`."""
    fd = open_directory(layout.shared_run, mount_point)
    try:
        root = by_fd(fd)
        at_root_only = group.group_change_policy == FsGroupChangePolicy.OnRootMismatch
        if not (at_root_only and _fits(os.stat(root), group.group_id, read_only)):
            _give_tree(root, group.group_id, read_only)
    except RecursionError as error:
        raise InvalidArgumentError(f"{mount_point} is nested too deeply to be given to a group") from error
    except OSError as error:
        if error.errno != errno.EROFS:
            raise failed(f"give {mount_point} to group {group.group_id}", error) from error
        log.info("%s is read-only and keeps its groups", mount_point)
    finally:
        os.close(fd)


def _fits(status: os.stat_result, group: int, read_only: bool) -> bool:
    wanted = _mode(status.st_mode, read_only)
    return status.st_gid == group and status.st_mode & wanted == wanted


def _mode(mode: int, read_only: bool) -> int:
    """The bits that a file or directory must have."""
    bits = READ_ONLY if read_only else READ_WRITE
    return bits | ENTER | SET_GROUP_ID if stat.S_ISDIR(mode) else bits


def _give_tree(root: str, group: int, read_only: bool) -> None:
    """Change the root last, so that a change that was broken off is begun anew."""
    for _, directories, files, fd in os.fwalk(root + "/.", topdown=False, onerror=_raise):
        for name in (*directories, *files):
            status = os.stat(name, dir_fd=fd, follow_symlinks=False)
            if stat.S_ISLNK(status.st_mode):
                continue
            os.chown(name, -1, group, dir_fd=fd, follow_symlinks=False)
            # Changing the owner has cleared the setuid bits, as it does for everybody.
            os.chmod(name, stat.S_IMODE(status.st_mode) | _mode(status.st_mode, read_only), dir_fd=fd)
    status = os.stat(root)
    os.chown(root, -1, group)
    os.chmod(root, stat.S_IMODE(status.st_mode) | _mode(status.st_mode, read_only))


def _raise(error: OSError) -> None:
    raise error
