"""Volumes as Kubernetes has them, through containerd's CRI."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import datetime
from pathlib import Path

import pytest
from grpclib.exceptions import GRPCError

from protos.gen.runtime import v1 as api
from tests.harness.containerd_version import sandboxer
from tests.harness.cri import Container
from tests.harness.fixtures import BedKeeper
from tests.harness.waiting import eventually_async
from tests.integration.storage import disks
from tests.integration.storage.cri_pod import Volumes, VolumesKeeper, run_pod
from tests.integration.storage.kubelet import PodVolumes, bound
from tests.integration.system.pods import linux, running

pytestmark = [pytest.mark.integration, pytest.mark.anyio]

#: Seconds in which an update of a ConfigMap, Secret or token is to be seen.
PROMISE = 3.0
_REFUSED = "Read-only file system"


@pytest.fixture(scope="module")
async def keeper(bed_keeper: BedKeeper, shared_directory: Path) -> AsyncIterator[VolumesKeeper]:
    """Owner of the pod; checks that its removal leaves nothing."""
    bed = bed_keeper.bed()
    check = bed.leak_check()
    keeper = VolumesKeeper(bed_keeper, shared_directory)
    yield keeper
    await keeper.close()
    if bed is bed_keeper.bed():
        check.assert_clean()


@pytest.fixture
async def kept(keeper: VolumesKeeper) -> Volumes:
    """The pod; it runs before what the test leaves is looked at."""
    return await keeper.volumes()


@pytest.fixture
def volumes(kept: Volumes, nothing_left: None) -> Volumes:
    """The pod with its volumes."""
    return kept


async def test_a_host_path_is_written_both_ways_with_what_is_mounted_in_it(volumes: Volumes):
    script = (
        "cat /host/file /host/inner/file /single; echo made >/host/made; echo inner >/host/inner/made; echo x >/single"
    )
    text = await volumes.sh(volumes.box, script)

    assert text.splitlines() == ["of the host", "of another file system", "single"]
    assert (volumes.directory / "host/made").read_text() == "made\n"
    assert (volumes.directory / "host/inner/made").read_text() == "inner\n"
    assert (volumes.directory / "single").read_text() == "x\n"


async def test_a_read_only_host_path_is_so_with_what_is_mounted_in_it(volumes: Volumes):
    script = (
        "cat /read-only/inner/file; echo x >/read-only/file; echo x >/read-only/inner/file; rm /read-only/file; true"
    )
    first, *refusals = (await volumes.sh(volumes.box, script)).splitlines()

    assert first == "of another file system"
    assert [_REFUSED in line for line in refusals] == [True] * 3


async def test_updates_of_config_map_secret_and_token_are_seen_in_time(volumes: Volumes):
    for value in ("2", "3"):
        for volume in volumes.updated:
            volume.update({"key": value.encode()})
        began = time.time()

        seen = await eventually_async(lambda value=value: _said(volumes.box, f"{value} {value} {value}"), "seen", 60)
        assert seen - began <= PROMISE


async def _said(container: Container, text: str) -> float:
    """When a container said something, in seconds of the epoch; 0 if it has not."""
    return next((_seconds(line.time) for line in container.log() if line.text == text), 0.0)


async def test_what_is_mounted_by_sub_path_is_one_version_of_one_key(volumes: Volumes):
    before = await volumes.sh(volumes.box, "cat /one-key")
    volumes.updated[0].update({"key": b"another"})
    await eventually_async(lambda: _reads(volumes, "/conf/key", "another"), "the volume's update is seen", 60)

    assert await volumes.sh(volumes.box, "cat /one-key") == before == "1"


async def _reads(volumes: Volumes, path: str, text: str) -> bool:
    return await volumes.sh(volumes.box, f"cat {path}") == text


async def test_a_part_of_an_empty_dir_is_that_part(volumes: Volumes):
    await volumes.sh(volumes.box, "echo part >/logs/file")

    parts = volumes.host.directory / "volumes/kubernetes.io~empty-dir/parts"
    assert (parts / "logs/file").read_text() == "part\n"


async def test_an_empty_dir_on_disk_is_shared_by_containers_and_the_host(volumes: Volumes):
    await volumes.sh(volumes.box, "echo box >/cache/from-box")

    assert await volumes.sh(volumes.peer, "cat /cache/from-box") == "box"
    assert (volumes.host.directory / "volumes/kubernetes.io~empty-dir/cache/from-box").read_text() == "box\n"


async def test_an_empty_dir_in_memory_is_the_guests_with_its_size(volumes: Volumes):
    script = (
        "df -k /memory | awk 'END {print $1, $2}'; dd if=/dev/zero of=/memory/big bs=64k count=32; rm /memory/big;"
        "echo box >/memory/file"
    )
    of_file_system, refusal, *_ = (await volumes.sh(volumes.box, script)).splitlines()

    assert of_file_system == "tmpfs 1024"
    assert "No space left on device" in refusal
    assert await volumes.sh(volumes.peer, "cat /memory/file") == "box"
    assert not any((volumes.host.directory / "volumes/kubernetes.io~empty-dir/memory").iterdir())


async def test_a_socket_joins_two_containers_of_a_pod(volumes: Volumes):
    cache = volumes.host.directory / "volumes/kubernetes.io~empty-dir/cache"
    link = "ln -s /cache/socket /dev/log"
    await volumes.sh(volumes.box, f"touch /cache/socket; {link}; syslogd -O /cache/messages")
    await eventually_async(lambda: _is_socket(cache / "socket"), "the socket is there", 60)

    await volumes.sh(volumes.peer, f"{link}; logger hello from the peer")
    await eventually_async(lambda: _holds(cache / "messages", "hello from the peer"), "the message arrives", 60)


async def _holds(path: Path, text: str) -> bool:
    return path.exists() and text in path.read_text()


async def _is_socket(path: Path) -> bool:
    return path.is_socket()


async def test_an_image_is_a_volume_to_read(volumes: Volumes):
    text = await volumes.sh(volumes.box, "grep ^app /image/etc/passwd; echo x >/image/etc/passwd || true")

    assert text.startswith("app:x:1000:")
    assert _REFUSED in text


async def test_a_root_file_system_may_be_for_reading_alone(volumes: Volumes):
    text = await volumes.sh(volumes.box, "echo x >/root/file || true; touch /cache/beside")

    assert _REFUSED in text


async def test_the_last_words_of_a_container_are_on_the_host(volumes: Volumes):
    await volumes.sh(volumes.box, "echo the disk is full >/dev/termination-log")

    assert (volumes.host.directory / "containers/box/1a2b3c4d").read_text() == "the disk is full\n"


async def test_containers_of_a_pod_share_memory_of_the_pods_size(volumes: Volumes):
    size = await volumes.sh(volumes.box, "echo shared >/dev/shm/file; df -k /dev/shm | awk 'END {print $2}'")

    assert size == str(64 << 10)
    assert await volumes.sh(volumes.peer, "cat /dev/shm/file; rm /dev/shm/file") == "shared"


async def test_a_claimed_block_device_is_a_disk_of_the_guest(volumes: Volumes):
    script = "dd if=/dev/claim bs=1k skip=1 count=1 2>/dev/null | od -An -tx1 -j56 -N2; echo mine >/dev/claim; sync"
    text = await volumes.sh(volumes.box, script)

    assert text.split() == ["53", "ef"]
    assert volumes.device.read_bytes()[:5] == b"mine\n"


async def test_what_the_host_mounts_later_appears_where_it_is_asked_for(volumes: Volumes):
    place = volumes.directory / "late" / "inner"
    with disks.mounted("tmpfs", place, "-t", "tmpfs"):
        (place / "file").write_text("late")
        assert await volumes.sh(volumes.box, "cat /late/inner/file") == "late"


async def test_mounts_that_are_to_appear_on_the_host_are_refused(volumes: Volumes):
    both_ways = api.MountPropagation.PROPAGATION_BIDIRECTIONAL
    mounts = [bound(volumes.directory / "late", "/mnt", propagation=both_ways)]
    with pytest.raises(GRPCError, match=r"mount /mnt: what a container mounts can't appear on the host"):
        async with running(volumes.cri, volumes.pod, "both-ways", mounts=mounts):
            pass

    assert await volumes.sh(volumes.peer, "echo alive") == "alive"


async def test_a_volume_that_goes_before_the_start_fails_it_and_the_others_live(volumes: Volumes):
    place = volumes.directory / "gone"
    place.mkdir()
    mounts = [bound(volumes.directory / "single", "/single"), bound(place, "/gone")]
    one = await volumes.cri.create(volumes.pod, "gone", ["true"], mounts=mounts, linux=linux())
    place.rmdir()
    with pytest.raises(GRPCError, match=rf"mount source {place}: No such file or directory"):
        await volumes.cri.start(one)
    await volumes.cri.remove(one)

    assert await volumes.sh(volumes.box, "cat /host/file; echo alive") == "of the host\nalive"


async def test_an_empty_dir_may_be_the_guests_own_directory(
    bed_keeper: BedKeeper, shared_directory: Path, nothing_left: None
):
    directory = shared_directory / "local"
    directory.mkdir()
    async with AsyncExitStack() as stack:
        host = PodVolumes(directory / "kubelet", "uid")
        stack.callback(host.close)
        bed = bed_keeper.bed()
        cri, pod = await run_pod(stack, bed, "local", directory, "disable_guest_empty_dir = false\n")
        cache = host.empty_dir("cache")
        (cache / "part").mkdir(mode=0o777)
        whole, part = bound(cache, "/cache"), bound(host.sub_path(cache, "part", "two"), "/part")
        script = "mkdir -p /cache/part; echo in the guest >/cache/part/file"
        async with running(cri, pod, "one", "sh", "-c", script, mounts=[whole]) as one:
            assert (await cri.wait_exit(one, 60)).exit_code == 0
        async with running(cri, pod, "two", "cat", "/part/file", mounts=[part]) as two:
            assert (await cri.wait_exit(two, 60)).exit_code == 0
            assert two.log()[0].text == "in the guest"
        # In a pod of the Sandbox API no container stays as long as the pod does: there it is the host's all the same.
        assert any((cache / "part").iterdir()) is (sandboxer() == "shim")


def _seconds(moment: str) -> float:
    """RFC 3339 with nanoseconds, in seconds of the epoch."""
    return datetime.fromisoformat(moment).timestamp()
