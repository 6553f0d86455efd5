"""The storage drivers by the names that Kata's agent protocol gives them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from guest.agent.storage import directories, overlay, shares

if TYPE_CHECKING:
    from guest.agent.layout import Layout
    from protos.lean.gen.grpc import Storage

#: Takes an attached storage away again; raises `OSError` if the kernel refuses.
Undo = Callable[[], None]
#: Makes a storage available at its mount point (a checked path) and returns how to undo that; raises `RpcError`.
Attach = Callable[["Storage", str, "Layout"], Awaitable[Undo]]

DRIVERS: dict[str, Attach] = {
    "virtio-fs": shares.attach_virtiofs,
    "bind": shares.attach_bind,
    "ephemeral": directories.attach_ephemeral,
    "local": directories.attach_local,
    "overlayfs": overlay.attach_overlay,
}
