"""`kata-ctl direct-volume`: what a CSI driver tells the runtime of a volume, in Kata's place and form.

`mountInfo.json` lies in a directory that is named after the volume's path; a pod that has the volume leaves a file with
its id there (docs/design/direct-blk-device-assignment.md of Kata Containers).
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import shutil
from pathlib import Path
from typing import Any

from ctl.errors import CtlError
from ctl.pods import find
from shim.management.client import ManagementError, ask

#: Kata's place; `sandbox.storage.direct` reads there.
ROOT = Path("/run/kata-containers/shared/direct-volumes")
_FILE = "mountInfo.json"
_KEYS = {"volume-type": str, "device": str, "fstype": str, "metadata": dict, "options": list}
_BYTES_MAX = 64 << 10


def directory(volume: str, root: Path) -> Path:
    """Where the volume's file is. Raises `CtlError` for a path whose name would be too long."""
    if not volume.startswith("/"):
        raise CtlError(f"the volume path {volume!r} is not absolute")
    name = base64.urlsafe_b64encode(os.fsencode(volume)).decode()
    if len(name) > 255:
        raise CtlError(f"the volume path is too long: {len(volume)} characters")
    return root / name


def add(volume: str, mount_info: str, root: Path = ROOT) -> None:
    """Write what `mount_info` (JSON) says of the volume, in one piece. Raises `CtlError`."""
    checked = json.dumps(check_mount_info(mount_info))
    place = directory(volume, root)
    try:
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        temporary = place.with_name(f".{place.name[:200]}.new")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(checked)
        temporary.replace(place / _FILE)
    except OSError as error:
        raise CtlError(f"direct volume {volume}: {error}") from error


def check_mount_info(text: str) -> dict[str, Any]:
    """The object in the JSON; raises `CtlError` for what the runtime could not take."""
    try:
        info = json.loads(text[: _BYTES_MAX + 1])
    except (ValueError, RecursionError) as error:
        raise CtlError(f"the mount info is not JSON: {error}") from error
    if not isinstance(info, dict):
        raise CtlError("the mount info is not a JSON object")
    for key, value in info.items():
        if key not in _KEYS:
            raise CtlError(f"mount info: unknown key {key!r}, there are {' '.join(_KEYS)}")
        if not isinstance(value, _KEYS[key]):
            raise CtlError(f"mount info: {key} is not a {_KEYS[key].__name__}")
    nested = [*(info.get("metadata") or {}).values(), *(info.get("options") or ())]
    if not all(isinstance(value, str) for value in nested):
        raise CtlError("mount info: options and metadata hold strings")
    if not str(info.get("device", "")).startswith("/"):
        raise CtlError("mount info: device must be an absolute path")
    return info


def remove(volume: str, root: Path = ROOT) -> None:
    """Forget the volume; nothing happens if it is not known. Raises `CtlError`."""
    try:
        shutil.rmtree(directory(volume, root))
    except FileNotFoundError:
        return
    except OSError as error:
        raise CtlError(f"direct volume {volume}: {error}") from error


def stats(volume: str, root: Path = ROOT) -> str:
    """Bytes and inodes of a volume that a pod has, as JSON. Raises `CtlError`, `ManagementError`."""
    pod = find(owner(volume, root))
    answer = asyncio.run(ask(pod.socket, "GET", "/direct-volume/stats", query={"path": volume}))
    try:
        return json.dumps(json.loads(answer), indent=2)
    except ValueError as error:
        raise ManagementError(f"{pod.socket}: the answer is not JSON") from error


def resize(volume: str, size: int, root: Path = ROOT) -> None:
    """Have the pod that has the volume grow its file system to `size` bytes. Raises `CtlError`, `ManagementError`."""
    body = json.dumps({"VolumePath": volume, "Size": size}).encode()
    asyncio.run(ask(find(owner(volume, root)).socket, "POST", "/direct-volume/resize", body=body))


def owner(volume: str, root: Path) -> str:
    """The id of the sandbox that has the volume; raises `CtlError` if none has."""
    try:
        names = sorted(path.name for path in directory(volume, root).iterdir())
    except FileNotFoundError as error:
        raise CtlError(f"direct volume {volume} is not known: kata-ctl direct-volume add tells of one") from error
    except OSError as error:
        raise CtlError(f"direct volume {volume}: {error}") from error
    owners = [name for name in names if name != _FILE]
    if not owners:
        raise CtlError(f"no pod has the direct volume {volume}")
    return owners[0]
