"""The overlayfs driver: layers in Kata's tree, put together for a container.

With the driver option of Kata's `overlay-rw` the upper and work directories are made here, in the guest's memory,
beside the mount point; `create_directory` makes directories that the options name.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from guest.agent.beneath import open_directory
from guest.agent.layout import Layout
from guest.agent.mountopts import parse
from guest.agent.names import path_beneath
from guest.agent.storage.mounting import DIRECTORY_MODE, mount_in

if TYPE_CHECKING:
    from protos.lean.gen.grpc import Storage

READ_WRITE_OPTION = "io.katacontainers.fs-opt.overlay-rw"
CREATE_DIRECTORY_OPTION = "io.katacontainers.volume.overlayfs.create_directory="
_DIRECTORY_KEYS = ("lowerdir", "upperdir", "workdir")


async def attach_overlay(storage: Storage, mount_point: str, layout: Layout) -> Callable[[], None]:
    """Mount the overlay; every layer lies in Kata's tree or the storage is refused."""
    options = [word for words in storage.options for word in words.split(",")]
    for option in storage.driver_options:
        if option.startswith(CREATE_DIRECTORY_OPTION):
            _make(layout, option.removeprefix(CREATE_DIRECTORY_OPTION))
    if READ_WRITE_OPTION in (*storage.driver_options, *options):
        options = [option for option in options if option != READ_WRITE_OPTION]
        options += [f"upperdir={_make(layout, mount_point + '-upper')}"]
        options += [f"workdir={_make(layout, mount_point + '-work')}"]
    check_layers(options, layout)
    return mount_in(layout, storage.source or "overlay", mount_point, "overlay", parse(options))


def check_layers(options: list[str], layout: Layout) -> None:
    """Raise `InvalidArgumentError` if a layer lies outside of Kata's tree."""
    for option in options:
        key, _, value = option.partition("=")
        if key in _DIRECTORY_KEYS:
            for directory in value.split(":"):
                path_beneath(directory, layout.shared_run, f"overlay {key}")


def _make(layout: Layout, value: str) -> str:
    path = path_beneath(value, layout.shared_run, "overlay directory")
    os.close(open_directory(layout.shared_run, path, DIRECTORY_MODE))
    return path
