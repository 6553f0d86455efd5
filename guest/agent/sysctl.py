"""Sysctls that the agent sets itself: those of the network namespace, which containers share with the guest."""

from __future__ import annotations

import re
from collections.abc import Mapping

from guest.agent.errors import InternalError, InvalidArgumentError

_PART = re.compile(r"[A-Za-z0-9_:-]+")
VALUE_LIMIT = 4096


def key_path(key: str) -> str:
    """The path below /proc/sys of a key written with dots or, where a name holds dots, with slashes."""
    parts = key.split("/" if "/" in key else ".")
    good = parts[0] == "net" and len(parts) > 1 and len(key) < 256
    if not good or not all(_PART.fullmatch(part) or _is_link_name(part) for part in parts):
        raise InvalidArgumentError(f"sysctl {key[:100]!r} is malformed")
    return "/".join(parts)


def _is_link_name(part: str) -> bool:
    """A link may be called `eth0.100`."""
    return ".." not in part and all(_PART.fullmatch(piece) for piece in part.split("."))


def apply(settings: Mapping[str, str], proc: str = "/proc") -> None:
    """Write the settings; `InvalidArgumentError` for a malformed one, `InternalError` naming the one that failed."""
    paths = {f"{proc}/sys/{key_path(key)}": (key, value) for key, value in settings.items()}
    for path, (key, value) in paths.items():
        if len(value) > VALUE_LIMIT:
            raise InvalidArgumentError(f"the value of sysctl {key} is too long")
        try:
            with open(path, "w", encoding="ascii") as file:
                file.write(value)
        except (OSError, UnicodeEncodeError) as error:
            raise InternalError(f"set sysctl {key}: {error}") from error
