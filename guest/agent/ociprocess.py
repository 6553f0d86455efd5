"""OCI process: from the protocol's `grpc.Process` to the JSON of the OCI runtime-spec that crun reads. Pure.

AppArmor and SELinux labels are dropped: they name profiles of the host, which this guest doesn't have.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from guest.agent.errors import InvalidArgumentError

if TYPE_CHECKING:
    from protos.lean.gen.grpc import LinuxCapabilities, Process, User

Json = dict[str, Any]

MAX_ARGS = 1 << 16
_SETS = ("bounding", "effective", "inheritable", "permitted", "ambient")


def process_json(process: Process | None, inherited: Json | None = None) -> Json:
    """The runtime-spec `process` object; raises `InvalidArgumentError` if it could not be run.

    `inherited` is the init's object, for an exec: one that names no capabilities gets the init's, as Kata's hosts
    rely on, which do not send them.
    """
    if process is None or not process.args:
        raise InvalidArgumentError("the process has no args")
    _check_text(process.args, "args")
    _check_text(process.env, "env")
    result: Json = {
        "terminal": process.terminal,
        "user": _user(process.user),
        "args": list(process.args),
        "env": list(process.env),
        "cwd": _cwd(process.cwd),
        "noNewPrivileges": process.no_new_privileges,
        "oomScoreAdj": _oom_score_adj(process.oom_score_adj),
        "rlimits": [{"type": limit.type, "hard": limit.hard, "soft": limit.soft} for limit in process.rlimits],
    }
    if process.terminal and process.console_size is not None:
        size = process.console_size
        if size.height and size.width:
            result["consoleSize"] = {"height": min(size.height, 0xFFFF), "width": min(size.width, 0xFFFF)}
    if process.capabilities is not None:
        result["capabilities"] = _capabilities(process.capabilities)
    elif inherited is not None and "capabilities" in inherited:
        result["capabilities"] = inherited["capabilities"]
    return result


def _user(user: User | None) -> Json:
    if user is None:
        return {"uid": 0, "gid": 0}
    result: Json = {"uid": user.uid, "gid": user.gid}
    if user.additional_gids:
        result["additionalGids"] = list(user.additional_gids)
    return result


def _capabilities(capabilities: LinuxCapabilities) -> Json:
    return {name: list(getattr(capabilities, name)) for name in _SETS}


def _cwd(cwd: str) -> str:
    if cwd and not cwd.startswith("/"):
        raise InvalidArgumentError(f"cwd {cwd[:200]!r} is not an absolute path")
    return cwd or "/"


def _oom_score_adj(value: int) -> int:
    if not -1000 <= value <= 1000:
        raise InvalidArgumentError(f"oomScoreAdj {value} is out of range")
    return value


def _check_text(values: list[str], what: str) -> None:
    """The kernel takes strings that end with a NUL, so none may hold one."""
    if len(values) > MAX_ARGS:
        raise InvalidArgumentError(f"{len(values)} {what} are too many")
    if any("\0" in value for value in values):
        raise InvalidArgumentError(f"{what} hold a NUL character")
