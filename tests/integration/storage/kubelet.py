"""The kubelet's part of a pod: where its volumes are on the host, and what is mounted there."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from protos.gen.runtime import v1 as api
from tests.fakes.configmap import ConfigMap
from tests.harness.command import run


class PodVolumes:
    """The volumes of one pod below the kubelet's directory `root`; `close` unmounts what is mounted there."""

    def __init__(self, root: Path, uid: str) -> None:
        self.directory = root / "pods" / uid
        self._undo = ExitStack()

    def empty_dir(self, name: str) -> Path:
        """An emptyDir on disk."""
        place = self._parent("empty-dir") / name
        place.mkdir()
        place.chmod(0o777)
        return place

    def memory(self, name: str, size: str) -> Path:
        """An emptyDir in memory: on the host a tmpfs."""
        place = self.empty_dir(name)
        self.mount("tmpfs", place, "-t", "tmpfs", "-o", f"size={size},mode=1777")
        return place

    def config_map(self, name: str, **files: str) -> ConfigMap:
        """A ConfigMap with these files."""
        return ConfigMap(self._parent("configmap") / name, _content(files))

    def secret(self, kind: str, name: str, **files: str) -> ConfigMap:
        """A Secret, or what is projected: the same in memory."""
        place = self._parent(kind) / name
        volume = ConfigMap(place, {})
        self.mount("tmpfs", place, "-t", "tmpfs", "-o", "size=1m")
        volume.update(_content(files))
        return volume

    def sub_path(self, volume: Path, part: str, container: str, number: int = 0) -> Path:
        """What a container gets that mounts only a part of a volume: the kubelet binds it at a place of its own."""
        source = volume / part
        place = self.directory / "volume-subpaths" / volume.name / container / str(number)
        place.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            place.mkdir()
        else:
            place.touch()
        self.mount(source, place, "--bind")
        return place

    def termination_log(self, container: str) -> Path:
        """The file for a container's last words."""
        path = self.directory / "containers" / container / "1a2b3c4d"
        path.parent.mkdir(parents=True)
        path.touch()
        path.chmod(0o666)
        return path

    def mount(self, source: Path | str, place: Path, *options: str) -> None:
        """Mount something, until `close`; `options` are mount(8)'s."""
        run("mount", *options, str(source), str(place)).check()
        self.on_close(lambda: run("umount", "--lazy", str(place)).check())

    def on_close(self, undo: Callable[[], object]) -> None:
        """Have something undone by `close`, in reverse order."""
        self._undo.callback(undo)

    def close(self) -> None:
        """Unmount everything."""
        self._undo.close()

    def _parent(self, kind: str) -> Path:
        parent = self.directory / "volumes" / f"kubernetes.io~{kind}"
        parent.mkdir(parents=True, exist_ok=True)
        return parent


def bound(
    source: Path, destination: str, readonly: bool = False, propagation: api.MountPropagation | None = None
) -> api.Mount:
    """How kubelet asks for a volume."""
    private = api.MountPropagation.PROPAGATION_PRIVATE
    return api.Mount(
        container_path=destination, host_path=str(source), readonly=readonly, propagation=propagation or private
    )


def _content(files: dict[str, str]) -> dict[str, bytes]:
    return {name: text.encode() for name, text in files.items()}
