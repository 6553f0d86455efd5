"""What crun's error messages mean to the host. Pure.

crun writes one JSON object a line to its log; the last error is the one that ended it. Seen with crun 1.8.1:

    executable file `foo` not found in $PATH: No such file or directory     -> NotFoundError `exec: "foo": ...`
    open executable: Permission denied                                      -> PermissionDeniedError `exec: "foo": ...`
    open executable: Operation not permitted (a directory)                  -> PermissionDeniedError
    exec container process `/bin/foo`: Exec format error (newer crun)       -> PermissionDeniedError
"""

from __future__ import annotations

from collections.abc import Sequence

from guest.agent.errors import InternalError, NotFoundError, PermissionDeniedError, RpcError, one_line

LOG_LIMIT = 1 << 16
_NOT_FOUND = ("executable file", "open executable: no such file", "exec container process (missing dynamic library?)")
_NOT_EXECUTABLE = ("open executable:", "exec format error", "exec container process")


def last_error(log: str) -> str:
    """The message of the last error in the text of crun's JSON log; empty if there is none."""
    import json

    message = ""
    for line in log.splitlines():
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if isinstance(entry, dict) and entry.get("level") == "error":
            message = str(entry.get("msg", ""))
    return message


def error_for(command: str, status: int, message: str, program: Sequence[str] = ()) -> RpcError:
    """The error of `crun command` that ended with `status` and logged `message`; `program` is what it was to run."""
    lowered = message.lower()
    name = one_line(program[0], 200) if program else ""
    if name and lowered.startswith(_NOT_FOUND):
        return NotFoundError(f'exec: "{name}": {_not_found_reason(name)}')
    if name and (lowered.startswith(_NOT_EXECUTABLE) or lowered.endswith("exec format error")):
        reason = "exec format error" if "exec format error" in lowered else "permission denied"
        return PermissionDeniedError(f'exec: "{name}": {reason}')
    return InternalError(f"crun {command}: {message or f'ended with status {status} and no message'}")


def _not_found_reason(name: str) -> str:
    return "no such file or directory" if "/" in name else "executable file not found in $PATH"
