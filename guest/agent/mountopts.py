"""Mount options: from fstab's words to the flags and the data string of mount(2). Pure."""

from __future__ import annotations

from collections.abc import Sequence

from guest.agent import kernel
from guest.agent.errors import InvalidArgumentError

#: The kernel copies one page of data, with its closing NUL.
DATA_LIMIT = 4095

#: Word, flag, whether the word sets it.
_FLAGS: dict[str, tuple[int, bool]] = {
    "ro": (kernel.MS_RDONLY, True),
    "rw": (kernel.MS_RDONLY, False),
    "nosuid": (kernel.MS_NOSUID, True),
    "suid": (kernel.MS_NOSUID, False),
    "nodev": (kernel.MS_NODEV, True),
    "dev": (kernel.MS_NODEV, False),
    "noexec": (kernel.MS_NOEXEC, True),
    "exec": (kernel.MS_NOEXEC, False),
    "sync": (kernel.MS_SYNCHRONOUS, True),
    "async": (kernel.MS_SYNCHRONOUS, False),
    "dirsync": (kernel.MS_DIRSYNC, True),
    "nosymfollow": (kernel.MS_NOSYMFOLLOW, True),
    "noatime": (kernel.MS_NOATIME, True),
    "atime": (kernel.MS_NOATIME, False),
    "nodiratime": (kernel.MS_NODIRATIME, True),
    "diratime": (kernel.MS_NODIRATIME, False),
    "relatime": (kernel.MS_RELATIME, True),
    "norelatime": (kernel.MS_RELATIME, False),
    "strictatime": (kernel.MS_STRICTATIME, True),
    "nostrictatime": (kernel.MS_STRICTATIME, False),
    "lazytime": (kernel.MS_LAZYTIME, True),
    "nolazytime": (kernel.MS_LAZYTIME, False),
    "bind": (kernel.MS_BIND, True),
    "rbind": (kernel.MS_BIND | kernel.MS_REC, True),
    "defaults": (0, True),
}
#: Changes of propagation, which mount(2) takes in a call of their own.
_PROPAGATION = {
    "private": kernel.MS_PRIVATE,
    "rprivate": kernel.MS_PRIVATE | kernel.MS_REC,
    "slave": kernel.MS_SLAVE,
    "rslave": kernel.MS_SLAVE | kernel.MS_REC,
    "shared": kernel.MS_SHARED,
    "rshared": kernel.MS_SHARED | kernel.MS_REC,
    "unbindable": kernel.MS_UNBINDABLE,
    "runbindable": kernel.MS_UNBINDABLE | kernel.MS_REC,
}


class MountOptions:
    """What mount(2) is told: `flags`, then `data` for the file system, then `propagation` (0: leave it)."""

    __slots__ = ("data", "flags", "propagation")

    def __init__(self, flags: int = 0, data: str = "", propagation: int = 0) -> None:
        self.flags = flags
        self.data = data
        self.propagation = propagation


def parse(options: Sequence[str]) -> MountOptions:
    """Sort the words; what is neither flag nor propagation is data. Raises `InvalidArgumentError`."""
    result = MountOptions()
    data: list[str] = []
    for option in (word for words in options for word in words.split(",") if word):
        if option in _FLAGS:
            flag, sets = _FLAGS[option]
            result.flags = result.flags | flag if sets else result.flags & ~flag
        elif option in _PROPAGATION:
            result.propagation = _PROPAGATION[option]
        else:
            data.append(option)
    result.data = ",".join(data)
    if len(result.data.encode()) > DATA_LIMIT or "\0" in result.data:
        raise InvalidArgumentError("mount options are malformed or exceed a page")
    return result


def split_value(options: Sequence[str], key: str) -> tuple[str | None, list[str]]:
    """Take `key=value` out of the options: the last value given (None without one), and the rest."""
    value: str | None = None
    rest: list[str] = []
    for option in options:
        if option.startswith(key + "="):
            value = option[len(key) + 1 :]
        else:
            rest.append(option)
    return value, rest
