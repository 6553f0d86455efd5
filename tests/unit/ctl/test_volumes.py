"""Direct volumes: the file that Kata's CSI drivers and this runtime agree on."""

from __future__ import annotations

import base64
import json
import stat
from pathlib import Path

import pytest

from ctl import volumes
from ctl.errors import CtlError
from sandbox.storage import direct
from tests.unit.ctl.conftest import MakePod, answering

VOLUME = "/var/lib/kubelet/pods/u-1/volumes/kubernetes.io~csi/pvc/mount"
INFO = json.dumps({"volume-type": "block", "device": "/dev/sdz", "fstype": "ext4", "options": ["ro"], "metadata": {}})


def test_the_runtime_reads_what_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(direct, "ROOT", tmp_path)
    volumes.add(VOLUME, INFO, tmp_path)

    found = direct.find(VOLUME)

    assert found is not None
    assert (found.device, found.read_only) == ("/dev/sdz", True)


def test_the_runtime_reads_in_the_same_place() -> None:
    assert direct.ROOT == volumes.ROOT


def test_the_file_is_roots_alone_under_katas_name(tmp_path: Path) -> None:
    volumes.add(VOLUME, INFO, tmp_path)

    [place] = tmp_path.iterdir()
    assert base64.urlsafe_b64decode(place.name).decode() == VOLUME
    assert [path.name for path in place.iterdir()] == ["mountInfo.json"]
    assert stat.S_IMODE((place / "mountInfo.json").stat().st_mode) == 0o600


@pytest.mark.parametrize(
    "info",
    [
        "",
        "[]",
        "[" * 100_000,
        "{}",
        '{"device": "sdz"}',
        '{"device": 3}',
        '{"device": "/dev/sdz", "option": []}',
        '{"device": "/dev/sdz", "options": "ro"}',
        '{"device": "/dev/sdz", "options": [1]}',
        '{"device": "/dev/sdz", "metadata": {"a": 1}}',
    ],
)
def test_what_the_runtime_could_not_take_is_refused(tmp_path: Path, info: str) -> None:
    with pytest.raises(CtlError) as caught:
        volumes.add(VOLUME, info, tmp_path)

    assert str(caught.value).isprintable()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("volume", ["relative", "", "/" + "a" * 300])
def test_a_path_that_is_no_volume_is_refused(tmp_path: Path, volume: str) -> None:
    with pytest.raises(CtlError):
        volumes.add(volume, INFO, tmp_path)


def test_a_volume_is_removed_once_and_again(tmp_path: Path) -> None:
    volumes.add(VOLUME, INFO, tmp_path)

    volumes.remove(VOLUME, tmp_path)
    volumes.remove(VOLUME, tmp_path)

    assert list(tmp_path.iterdir()) == []


def test_the_owner_is_the_pod_that_left_its_name(tmp_path: Path) -> None:
    with pytest.raises(CtlError, match="not known"):
        volumes.owner(VOLUME, tmp_path)
    volumes.add(VOLUME, INFO, tmp_path)
    with pytest.raises(CtlError, match="no pod has"):
        volumes.owner(VOLUME, tmp_path)
    (volumes.directory(VOLUME, tmp_path) / "c1").touch()

    assert volumes.owner(VOLUME, tmp_path) == "c1"


@pytest.mark.anyio
async def test_statistics_come_from_the_pod(tmp_path: Path, make_pod: MakePod) -> None:
    import anyio.to_thread

    pod = make_pod("c1")
    volumes.add(VOLUME, INFO, tmp_path)
    (volumes.directory(VOLUME, tmp_path) / "c1").touch()

    async with answering(pod, '{"usage": []}'):
        told = await anyio.to_thread.run_sync(volumes.stats, VOLUME, tmp_path)

    assert json.loads(told) == {"usage": []}
