"""A pod through CRI with every kind of volume, in two containers that stay: many tests, one boot."""

from __future__ import annotations

import uuid
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from protos.gen.runtime import v1 as api
from tests.fakes.configmap import ConfigMap
from tests.harness.bed import Bed
from tests.harness.cri import Container, Cri, ExecResult, Pod
from tests.harness.fixtures import BedKeeper
from tests.harness.images import BUSYBOX
from tests.harness.runtimes import KATA_SECCOMP
from tests.integration.storage import disks
from tests.integration.storage.kubelet import PodVolumes, bound
from tests.integration.system.pods import linux, pod_linux

#: The handler: its configuration is the bed's own copy, so a drop-in may stand beside it.
HANDLER = KATA_SECCOMP

#: Says what it reads in its ConfigMap, Secret and token, once for each change; ends on SIGTERM.
_WATCH = """
trap 'exit 0' TERM
while :; do
    read -r a </conf/key; read -r b </secret/key; read -r c </token/key
    [ "$a $b $c" = "$last" ] || echo "$a $b $c"
    last="$a $b $c"
    sleep 0.2
done
"""


@dataclass
class Volumes:
    """The pod, the volumes of its containers on the host, and those containers."""

    cri: Cri
    pod: Pod
    host: PodVolumes
    directory: Path
    #: ConfigMap, Secret and token.
    updated: tuple[ConfigMap, ...]
    device: Path
    #: Watches; has every volume, and a root file system that it may only read.
    box: Container
    #: Shares the pod's volumes with it.
    peer: Container

    async def sh(self, container: Container, script: str) -> str:
        """What a script wrote to both its streams, in a container."""
        done: ExecResult = await self.cri.exec(container, "sh", "-c", f"{{ {script}\n}} 2>&1", timeout=60)
        assert done.exit_code == 0, f"{script}: {done.exit_code}: {done.text}"
        return done.text


class VolumesKeeper:
    """Runs the pod when it is wanted, and another if a test has spoiled the bed that the last one was in."""

    def __init__(self, beds: BedKeeper, directory: Path) -> None:
        self._beds = beds
        self._directory = directory
        self._stack = AsyncExitStack()
        self._bed: Bed | None = None
        self._kept: Volumes | None = None

    async def volumes(self) -> Volumes:
        """The pod with its containers running."""
        bed = self._beds.bed()
        if self._kept is None or self._bed is not bed:
            await self._stack.aclose()
            self._bed = bed
            self._kept = await self._make(bed)
        return self._kept

    async def close(self) -> None:
        """Remove the pod and what it had."""
        await self._stack.aclose()

    async def _make(self, bed: Bed) -> Volumes:
        directory = self._directory / uuid.uuid4().hex[:8]
        directory.mkdir()
        host = PodVolumes(directory / "kubelet", "uid")
        self._stack.callback(host.close)
        device = self._stack.enter_context(disks.loop_device(disks.ext4(directory / "claim.img", mib=8)))
        cri, pod = await run_pod(self._stack, bed, "volumes", directory, "")
        updated = (
            host.config_map("conf", key="1"),
            host.secret("secret", "secret", key="1"),
            host.secret("projected", "token", key="1"),
        )
        shared = [bound(host.empty_dir("cache"), "/cache"), bound(host.memory("memory", "1m"), "/memory")]
        box = await cri.run(
            pod,
            "box",
            *("sh", "-c", _WATCH),
            mounts=[*shared, *_box_mounts(bed, host, directory, updated)],
            devices=[api.Device(container_path="/dev/claim", host_path=str(device), permissions="rwm")],
            linux=linux(readonly_rootfs=True),
        )
        stay = "trap 'exit 0' TERM; while :; do sleep 3600 & wait; done"
        peer = await cri.run(pod, "peer", "sh", "-c", stay, mounts=shared, linux=linux())
        return Volumes(cri, pod, host, directory, updated, device, box, peer)


def _box_mounts(bed: Bed, host: PodVolumes, directory: Path, updated: tuple[ConfigMap, ...]) -> list[api.Mount]:
    places = [volume.directory for volume in updated]
    parts = host.empty_dir("parts")
    (parts / "logs").mkdir()
    return [
        *(bound(place, f"/{place.name}", readonly=True) for place in places),
        bound(host.sub_path(places[0], "key", "box"), "/one-key", readonly=True),
        bound(host.sub_path(parts, "logs", "box", 1), "/logs"),
        bound(host.termination_log("box"), "/dev/termination-log"),
        *_host_paths(host, directory),
        bound(_image_volume(bed, host, directory / "image"), "/image", readonly=True),
    ]


def _host_paths(host: PodVolumes, directory: Path) -> list[api.Mount]:
    """A directory with another file system in it, for writing and for reading, and a file."""
    place = directory / "host"
    (place / "inner").mkdir(parents=True)
    (place / "file").write_text("of the host\n")
    host.mount("tmpfs", place / "inner", "-t", "tmpfs")
    (place / "inner/file").write_text("of another file system\n")
    (directory / "single").write_text("single\n")
    late = directory / "late"
    late.mkdir()
    follows = api.MountPropagation.PROPAGATION_HOST_TO_CONTAINER
    return [
        bound(place, "/host"),
        bound(place, "/read-only", readonly=True),
        bound(directory / "single", "/single"),
        bound(late, "/late", propagation=follows),
    ]


def _image_volume(bed: Bed, host: PodVolumes, place: Path) -> Path:
    """An image's files, mounted as containerd does that for a volume of an image."""
    place.mkdir()
    images = bed.ctr("k8s.io")
    images("images", "mount", BUSYBOX, str(place)).check()
    host.on_close(lambda: images("images", "unmount", "--rm", str(place)).check())
    return place


async def run_pod(stack: AsyncExitStack, bed: Bed, name: str, directory: Path, settings: str) -> tuple[Cri, Pod]:
    """A pod whose kubelet's directory is in `directory`, under a configuration with these `settings` of the runtime."""
    drop_in = bed.directory / HANDLER.name / "config.d" / "60-volumes.toml"
    drop_in.write_text(f"[runtime]\nkubelet_root_dir = '{directory}/kubelet'\n{settings}")
    try:
        cri = await stack.enter_async_context(Cri.connect(bed.socket, bed.pod_logs, HANDLER))
        await cri.wait_for_image()
        stack.push_async_callback(_remove, cri, bed)
        return cri, await cri.run_pod(name, linux=pod_linux())
    finally:
        drop_in.unlink()


async def _remove(cri: Cri, bed: Bed) -> None:
    """Remove the pods, if their bed is still there."""
    if bed.containerd.pid:
        await cri.remove_all()
