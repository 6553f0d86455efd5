"""Images whose configurations say more than which files they have."""

from __future__ import annotations

from tests.harness.images import Image, Layer, standard_images

#: Says what runs, as whom, where, with what in its environment, and how it is stopped.
FULL = "localhost/bed/full:1"

#: Has files, and nothing to run.
EMPTY = "localhost/bed/empty:1"

_LAYERS = standard_images()[0].layers

IMAGES = [
    Image(
        FULL,
        [*_LAYERS, Layer({"data": None, "data/of-image": b"from the image\n"})],
        entrypoint=["echo", "entrypoint"],
        command=["command"],
        settings={
            "Env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin", "COLOUR=blue", "SHAPE=round"],
            "User": "app",
            "WorkingDir": "/home/app",
            "StopSignal": "SIGUSR1",
            "Volumes": {"/data": {}},
        },
    ),
    Image(EMPTY, _LAYERS),
]
