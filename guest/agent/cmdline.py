"""The agent's options, taken from the kernel command line as Kata does (`agent.log=debug`, ...).

An unknown option is ignored and a malformed value falls back to the default: the agent must come up, or nobody can ask
it what is wrong.
"""

from __future__ import annotations

DEFAULT_HOTPLUG_TIMEOUT = 3.0
DEFAULT_PORT = 1024
MAX_PIPE_SIZE = 1 << 20


class Options:
    """What the command line says.

    `log_level` is a name; `hotplug_timeout` is in seconds; `pipe_size` is in bytes, 0 means the agent's own.
    """

    __slots__ = ("developer", "hotplug_timeout", "log_level", "pipe_size", "port")

    def __init__(self) -> None:
        self.log_level = "info"
        self.hotplug_timeout = DEFAULT_HOTPLUG_TIMEOUT
        self.pipe_size = 0
        self.port = DEFAULT_PORT
        #: Sessions from inside the guest are let in.
        self.developer = False


def parse(line: str) -> Options:
    """Read the options from the text of /proc/cmdline."""
    options = Options()
    for word in line.split():
        key, _, value = word.partition("=")
        if key == "agent.log" and value:
            options.log_level = value
        elif word == "agent.devmode":
            options.developer = True
        elif key == "agent.hotplug_timeout":
            options.hotplug_timeout = float(_number(value, 1, 600) or DEFAULT_HOTPLUG_TIMEOUT)
        elif key == "agent.container_pipe_size":
            options.pipe_size = _number(value, 4096, MAX_PIPE_SIZE) or 0
        elif key == "agent.server_addr" and value.startswith("vsock://"):
            options.port = _number(value.rpartition(":")[2], 1, 0xFFFFFFFE) or DEFAULT_PORT
    return options


def read(proc: str = "/proc") -> Options:
    """The options of the running kernel; the defaults where its command line can't be read."""
    try:
        with open(f"{proc}/cmdline", encoding="utf-8", errors="replace") as file:
            return parse(file.read(1 << 16))
    except OSError:
        return Options()


def _number(text: str, low: int, high: int) -> int | None:
    """The whole number in `text` if it lies within the bounds."""
    if not text.isascii() or not text.isdigit() or len(text) > 12:
        return None
    value = int(text)
    return value if low <= value <= high else None
