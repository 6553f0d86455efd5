"""What containerd names as the place of a stream, understood.

| text | meaning |
|---|---|
| empty | the stream is discarded, or has no input |
| an absolute path, `fifo:///path` | a FIFO |
| `file:///path` | a file that is appended to; its directories are made |
| `binary:///path?key=value`, `binary-v2://...` | a logger, started with `key value` as arguments |
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from urllib.parse import parse_qsl, unquote, urlsplit

from sandbox.errors import InvalidArgumentError


class Scheme(Enum):
    """The kinds of places."""

    NONE = "none"
    FIFO = "fifo"
    FILE = "file"
    BINARY = "binary"
    BINARY_V2 = "binary-v2"


@dataclass(frozen=True)
class Target:
    """A place; `arguments` are those of a logger."""

    scheme: Scheme
    path: str = ""
    arguments: tuple[str, ...] = ()

    @property
    def is_logger(self) -> bool:
        """Whether output goes to a program."""
        return self.scheme in (Scheme.BINARY, Scheme.BINARY_V2)


def parse(text: str) -> Target:
    """Understand one stream's place; raises `InvalidArgumentError`, naming it, for what is not in the table above."""
    if not text:
        return Target(Scheme.NONE)
    if text.startswith("/"):
        return Target(Scheme.FIFO, _path(text, text))
    try:
        url = urlsplit(text)
        scheme = Scheme(url.scheme)
    except ValueError:
        raise InvalidArgumentError(f"stream {text!r}: unknown kind of stream") from None
    if scheme is Scheme.NONE:
        raise InvalidArgumentError(f"stream {text!r}: unknown kind of stream")
    if url.netloc:
        raise InvalidArgumentError(f"stream {text!r}: a host makes no sense here (three slashes?)")
    arguments: tuple[str, ...] = ()
    if scheme in (Scheme.BINARY, Scheme.BINARY_V2):
        arguments = _arguments(url.query)
    return Target(scheme, _path(text, unquote(url.path)), arguments)


def _path(text: str, path: str) -> str:
    if not path.startswith("/") or "\0" in path:
        raise InvalidArgumentError(f"stream {text!r}: not an absolute path")
    return path


def _arguments(query: str) -> tuple[str, ...]:
    """Each `key=value` becomes two arguments, the second empty where there is no value; a repeated key counts once."""
    arguments: dict[str, str] = {}
    for key, value in parse_qsl(query, keep_blank_values=True):
        arguments.setdefault(key, value)
    return tuple(item for pair in arguments.items() for item in pair)
