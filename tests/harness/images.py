"""Container images made on the spot, without a registry: an OCI image layout in a tar archive, from busybox-static.

The same input gives the same bytes: digests are stable, and an archive is kept under the hash of what it is made from.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import subprocess
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

#: A shell, the usual tools, users root, app (1000) and nobody; two layers.
BUSYBOX = "localhost/bed/busybox:1"

#: What CRI runs as a pod's own container; ends on SIGTERM and reaps the orphans of a shared PID namespace.
PAUSE = "localhost/bed/pause:1"

_BUSYBOX_BINARY = Path("/bin/busybox")
_PAUSE_SCRIPT = b"#!/bin/sh\ntrap 'exit 0' TERM INT\nwhile :; do sleep 3600 & wait $!; done\n"
_PASSWD = b"root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000:app:/home/app:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n"
_GROUP = b"root:x:0:\napp:x:1000:\nextra:x:2000:app\nnogroup:x:65534:\n"


@dataclass(frozen=True)
class Layer:
    """Content of one layer by path: bytes are files, `Link`s symbolic links, None a directory."""

    entries: Mapping[str, bytes | Link | None]
    modes: Mapping[str, int] = field(default_factory=dict)

    def tar(self) -> bytes:
        """The layer as a tar archive that does not depend on when or where it is made."""
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
            for path, content in self.entries.items():
                info = tarfile.TarInfo(path)
                info.mode = self.modes.get(path, 0o755)
                if content is None:
                    info.type = tarfile.DIRTYPE
                elif isinstance(content, Link):
                    info.type, info.linkname = tarfile.SYMTYPE, content.target
                else:
                    info.size = len(content)
                archive.addfile(info, io.BytesIO(content) if isinstance(content, bytes) else None)
        return buffer.getvalue()


@dataclass(frozen=True)
class Link:
    """A symbolic link."""

    target: str


@dataclass(frozen=True)
class Image:
    """A named image: its layers, bottom first, and what runs in it by default."""

    name: str
    layers: Sequence[Layer]
    entrypoint: Sequence[str] = ()
    command: Sequence[str] = ()
    #: Further fields of the image's configuration (image-spec, `config`), such as `StopSignal`.
    settings: Mapping[str, Any] = field(default_factory=dict)


def busybox_layer(binary: bytes, applets: Sequence[str]) -> Layer:
    """The base layer: busybox, a link for each applet, and the directories that programs expect."""
    entries: dict[str, bytes | Link | None] = dict.fromkeys(
        ("bin", "sbin", "usr", "usr/bin", "usr/sbin", "dev", "etc", "proc", "sys", "root", "home", "tmp", "var", "run")
    )
    entries["bin/busybox"] = binary
    for applet in applets:
        entries.setdefault(applet, Link("/bin/busybox"))
    return Layer(entries, {"tmp": 0o1777, "root": 0o700})


def standard_images() -> list[Image]:
    """The images of every bed: `BUSYBOX` and `PAUSE`. Raises `FileNotFoundError` without busybox-static."""
    applets = subprocess.run([_BUSYBOX_BINARY, "--list-full"], capture_output=True, check=True, timeout=10)
    base = busybox_layer(_BUSYBOX_BINARY.read_bytes(), applets.stdout.decode().split())
    users = Layer({"etc": None, "etc/passwd": _PASSWD, "etc/group": _GROUP, "home/app": None}, {"etc/passwd": 0o644})
    pause = Layer({"pause": _PAUSE_SCRIPT})
    return [
        Image(BUSYBOX, [base, users], command=["sh"]),
        Image(PAUSE, [base, pause], entrypoint=["/pause"]),
    ]


def archive(images: Sequence[Image]) -> bytes:
    """A tar archive in OCI image layout (image-spec 1.0) with all `images`, named for `ctr images import`."""
    blobs: dict[str, bytes] = {}
    manifests = []
    for image in images:
        descriptor = _manifest(image, blobs)
        name = {"io.containerd.image.name": image.name, "org.opencontainers.image.ref.name": image.name.split(":")[-1]}
        manifests.append({**descriptor, "annotations": name, "platform": {"architecture": "amd64", "os": "linux"}})
    entries: dict[str, bytes | Link | None] = {
        "oci-layout": b'{"imageLayoutVersion":"1.0.0"}',
        "index.json": _json({"schemaVersion": 2, "manifests": manifests}),
    }
    entries.update({f"blobs/sha256/{digest}": data for digest, data in blobs.items()})
    return Layer(entries).tar()


def _manifest(image: Image, blobs: dict[str, bytes]) -> dict[str, Any]:
    """Put the blobs of `image` into `blobs`; returns the descriptor of its manifest."""
    plain = [layer.tar() for layer in image.layers]
    # Level 1 and no time stamp: the bytes depend on the content only, and a guest's worth of layers packs in no time.
    packed = [gzip.compress(data, compresslevel=1, mtime=0) for data in plain]
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {
            "Env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"],
            "Entrypoint": list(image.entrypoint),
            "Cmd": list(image.command),
            **image.settings,
        },
        "rootfs": {"type": "layers", "diff_ids": ["sha256:" + _digest(data) for data in plain]},
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": _blob(blobs, "application/vnd.oci.image.config.v1+json", _json(config)),
        "layers": [_blob(blobs, "application/vnd.oci.image.layer.v1.tar+gzip", data) for data in packed],
    }
    return _blob(blobs, manifest["mediaType"], _json(manifest))


def _blob(blobs: dict[str, bytes], media_type: Any, data: bytes) -> dict[str, Any]:
    digest = _digest(data)
    blobs[digest] = data
    return {"mediaType": media_type, "digest": "sha256:" + digest, "size": len(data)}


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), sort_keys=True).encode()


def standard_archive(cache: Path) -> Path:
    """The archive of `standard_images`, made once for each busybox and each version of this module."""
    key = _digest(_BUSYBOX_BINARY.read_bytes() + Path(__file__).read_bytes())[:16]
    path = cache / f"images-{key}.tar"
    if not path.exists():
        cache.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(".new")
        temporary.write_bytes(archive(standard_images()))
        temporary.replace(path)
    return path
