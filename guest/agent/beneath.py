"""Paths below a root, walked without ever following a symbolic link.

The share holds what the host and the containers put there, and a link in it must not lead a privileged process
elsewhere. The walk opens one component after the other with O_NOFOLLOW, so no link can be swapped in between
(what openat2(2) does with RESOLVE_BENEATH and RESOLVE_NO_SYMLINKS).
"""

from __future__ import annotations

import os

from guest.agent.errors import InvalidArgumentError, NotFoundError, failed
from guest.agent.names import path_beneath

_DIRECTORY = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def open_directory(root: str, path: str, create_mode: int | None = None) -> int:
    """Open the directory `path`, which is `root` or a normal path below it, as an O_PATH descriptor.

    Missing directories are made with `create_mode`, below `root` as well as `root` itself; None means they must exist.
    """
    if create_mode is not None:
        os.makedirs(root, exist_ok=True)
    try:
        fd = os.open(root, _DIRECTORY)
    except OSError as error:
        raise failed(f"open {root}", error) from error
    for part in path[len(root) :].strip("/").split("/"):
        if not part:
            continue
        try:
            child = _open_child(fd, part, create_mode, path)
        finally:
            os.close(fd)
        fd = child
    return fd


def open_parent(root: str, value: str, what: str, create_mode: int | None = None) -> tuple[int, str]:
    """Open the directory that holds `value`, a path strictly below `root`; also returns the last component."""
    path = path_beneath(value, root, what)
    parent, _, name = path.rpartition("/")
    return open_directory(root, parent, create_mode), name


def open_path(root: str, value: str, what: str) -> int:
    """Open what `value` names strictly below `root`, of whatever kind but a symbolic link, as an O_PATH descriptor."""
    parent, name = open_parent(root, value, what)
    try:
        fd = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    except FileNotFoundError as error:
        raise NotFoundError(f"{what} {value} does not exist") from error
    except OSError as error:
        raise failed(f"open {value}", error) from error
    finally:
        os.close(parent)
    if _is_link(fd):
        os.close(fd)
        raise InvalidArgumentError(f"{what} {value} is a symbolic link")
    return fd


def remove_tree(path: str) -> None:
    """Remove a directory with all it holds, following no link; raises `OSError`. A missing one is no error."""
    try:
        for _, directories, files, fd in os.fwalk(path, topdown=False, onerror=_raise):
            for name in files:
                os.unlink(name, dir_fd=fd)
            for name in directories:
                _remove_entry(name, fd)
        os.rmdir(path)
    except FileNotFoundError:
        pass
    except RecursionError as error:
        raise OSError(f"{path} is nested too deeply to be removed") from error


def _remove_entry(name: str, parent: int) -> None:
    """Remove a directory that is empty now, or a link to one."""
    try:
        os.rmdir(name, dir_fd=parent)
    except NotADirectoryError:
        os.unlink(name, dir_fd=parent)


def _raise(error: OSError) -> None:
    raise error


def by_fd(fd: int) -> str:
    """A path that leads to exactly what `fd` is open on."""
    return f"/proc/self/fd/{fd}"


def _open_child(parent: int, name: str, create_mode: int | None, path: str) -> int:
    if create_mode is not None:
        try:
            os.mkdir(name, create_mode, dir_fd=parent)
        except FileExistsError:
            pass
        except OSError as error:
            raise failed(f"make {path}", error) from error
    try:
        return os.open(name, _DIRECTORY, dir_fd=parent)
    except FileNotFoundError as error:
        raise NotFoundError(f"directory {path} does not exist") from error
    except NotADirectoryError as error:
        raise InvalidArgumentError(f"{path} leads through {name}, which is no directory") from error
    except OSError as error:
        raise failed(f"open {path}", error) from error


def _is_link(fd: int) -> bool:
    import stat

    return stat.S_ISLNK(os.fstat(fd).st_mode)
