"""The overlayfs driver: layers in Kata's tree, put together for a container.

With the option of Kata's `overlay-rw` the upper and work directories are made here, in the guest's memory and out of
the host's reach; `create_directory` makes directories that the options name.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from guest.agent.beneath import open_directory, remove_tree
from guest.agent.errors import failed
from guest.agent.layout import Layout
from guest.agent.mountopts import parse
from guest.agent.names import path_beneath
from guest.agent.storage.context import DriverContext, Undo, blocking, in_turn, quick
from guest.agent.storage.mounting import DIRECTORY_MODE, mount_in

if TYPE_CHECKING:
    from protos.lean.gen.grpc import Storage

READ_WRITE_OPTION = "io.katacontainers.fs-opt.overlay-rw"
CREATE_DIRECTORY_OPTION = "io.katacontainers.volume.overlayfs.create_directory="
_DIRECTORY_KEYS = ("lowerdir", "upperdir", "workdir")


async def attach_overlay(storage: Storage, mount_point: str, context: DriverContext) -> Undo:
    """Mount the overlay; every layer lies in Kata's tree or the storage is refused."""
    layout = context.layout
    words = [word for words in storage.options for word in words.split(",")]
    options = [word for word in words if word != READ_WRITE_OPTION]
    check_layers(options, layout)
    for option in storage.driver_options:
        if option.startswith(CREATE_DIRECTORY_OPTION):
            _make(layout, option.removeprefix(CREATE_DIRECTORY_OPTION))
    if READ_WRITE_OPTION not in (*storage.driver_options, *words):
        return quick(mount_in(layout, storage.source or "overlay", mount_point, "overlay", parse(options)))
    place = scratch(layout)
    forget = blocking(lambda: remove_tree(place))
    try:
        options += [f"upperdir={place}/upper", f"workdir={place}/work"]
        undo = mount_in(layout, storage.source or "overlay", mount_point, "overlay", parse(options))
    except BaseException:
        await forget()
        raise
    return in_turn(quick(undo), forget)


def scratch(layout: Layout) -> str:
    """A directory of the agent's own with an empty `upper` and `work`, the writable layer of one overlay."""
    place = f"{layout.state}/overlays/{os.urandom(8).hex()}"
    try:
        for name in ("upper", "work"):
            os.makedirs(f"{place}/{name}")
    except OSError as error:
        raise failed(f"make {place}", error) from error
    return place


def check_layers(options: list[str], layout: Layout) -> None:
    """Raise `InvalidArgumentError` if a layer lies outside of Kata's tree."""
    for option in options:
        key, _, value = option.partition("=")
        if key in _DIRECTORY_KEYS:
            for directory in value.split(":"):
                path_beneath(directory, layout.shared_run, f"overlay {key}")


def _make(layout: Layout, value: str) -> None:
    path = path_beneath(value, layout.shared_run, "overlay directory")
    os.close(open_directory(layout.shared_run, path, DIRECTORY_MODE))
