"""Storages that are no single disk: memory, directories, overlays, layers, and copies that follow the host's share."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

import pytest
from grpclib.const import Status

from agent_client.errors import AgentError
from protos.gen import grpc as pb
from tests.integration.guest.machine import MIB, PATIENCE, RUN, SHARED, Machine

pytestmark = [pytest.mark.anyio, pytest.mark.integration]

#: Issue: a ConfigMap's new content reaches the container within 3 s.
FOLLOW_SECONDS = 3.0


def place(name: str) -> str:
    """A mount point in the sandbox' tree."""
    return f"{RUN}/sandbox/ephemeral/{name}"


async def test_memory_has_its_group_and_gets_another_size(machine: Machine):
    options = ["size=1m", "nosuid", "fsgid=3000"]
    storage = pb.Storage(driver="ephemeral", source="tmpfs", options=options, mount_point=place("m"))
    container_id = machine.name()
    await machine.create(container_id, "sleep 1000", storages=[storage], binds={"/mnt": place("m")})
    await machine.agent.start_container(container_id)
    fill = "dd if=/dev/zero of=/mnt/f bs=1M count=3 2>/dev/null; stat -c '%s' /mnt/f"

    small = await machine.execute(container_id, fill)
    storage.options = ["remount", "size=4m"]
    await machine.agent.storage.update_ephemeral_mounts([storage])
    large = await machine.execute(container_id, fill)
    root = await machine.execute(container_id, "stat -c '%g %a' /mnt; grep -c 'ephemeral.*nosuid' /proc/self/mounts")

    await machine.agent.remove_container(container_id)
    assert (small, large) == (str(MIB), str(3 * MIB))
    assert root.splitlines()[0] == "3000 3777"


async def test_huge_pages_are_reserved_and_given_back(machine: Machine):
    storage = _huge_pages("8m")
    count = "cat /sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages"

    during = await machine.output(f"{count}; grep /mnt /proc/mounts", storages=[storage], binds={"/mnt": place("huge")})

    assert during.split()[0] == "4"
    assert "hugetlbfs" in during
    assert await machine.output(count) == "0"


async def test_huge_pages_that_are_not_there_are_an_error(machine: Machine):
    with pytest.raises(AgentError, match="huge pages of 2048 KiB could be had") as caught:
        await machine.run("true", storages=[_huge_pages("100g")])

    assert caught.value.code is Status.RESOURCE_EXHAUSTED
    assert await machine.output("cat /proc/sys/vm/nr_hugepages") == "0"


def _huge_pages(size: str) -> pb.Storage:
    options = ["pagesize=2M", f"size={size}"]
    return pb.Storage(
        driver="ephemeral", source="nodev", fstype="hugetlbfs", options=options, mount_point=place("huge")
    )


async def test_a_local_directory_goes_with_its_container(machine: Machine):
    storage = pb.Storage(driver="local", options=["mode=0750", "fsgid=3000"], mount_point=place("local"))
    script = "touch /mnt/file; stat -c '%g %a' /mnt"

    assert await machine.output(script, storages=[storage], binds={"/mnt": place("local")}) == "3000 2770"

    assert "local" not in await machine.output("ls /mnt", binds={"/mnt": f"{RUN}/sandbox/ephemeral"})


async def test_an_overlay_is_writable_in_the_guests_memory(machine: Machine):
    lower = machine.shared / "lower"
    lower.mkdir()
    (lower / "file").write_text("old")
    storage = pb.Storage(
        driver="overlayfs",
        source="none",
        fstype="overlay",
        options=[f"lowerdir={SHARED}/lower", "io.katacontainers.fs-opt.overlay-rw"],
        mount_point=place("overlay"),
    )

    output = await machine.output(
        "cat /mnt/file; echo new > /mnt/file; cat /mnt/file", storages=[storage], binds={"/mnt": place("overlay")}
    )

    assert output == "oldnew"
    assert (lower / "file").read_text() == "old"


def _layers() -> list[pb.Storage]:
    mount_point = f"{RUN}/shared/layered"
    lower = [
        pb.Storage(
            driver="erofs.multi-layer",
            source=source,
            fstype="erofs",
            options=["X-kata.overlay-lower"],
            mount_point=mount_point,
        )
        for source in ("14", "15")
    ]
    options = ["X-kata.overlay-upper", "X-kata.mkfs=true", "X-kata.mkdir.path={{ mount 0 }}/upper/made:0755"]
    upper = pb.Storage(
        driver="blk",
        source="16",
        fstype="ext4",
        options=[*options, "X-kata.multi-layer=true"],
        mount_point=mount_point,
    )
    return [upper, *lower]


async def test_layers_of_disks_make_one_root(machine: Machine):
    script = "cd /mnt; cat both top/alone bottom/alone; ls -d made; echo kept >> log; cat log"
    binds = {"/mnt": f"{RUN}/shared/layered"}

    first = await machine.output(script, storages=_layers(), binds=binds)
    second = await machine.output(script, storages=_layers(), binds=binds)

    assert first == "uppertopbottommade\nkept"
    assert second == "uppertopbottommade\nkept\nkept"


async def test_layers_without_a_disk_to_write_to_use_memory(machine: Machine):
    output = await machine.output(
        "cd /mnt; echo x > both; cat both bottom/alone", storages=_layers()[1:], binds={"/mnt": f"{RUN}/shared/layered"}
    )

    assert output == "x\nbottom"


async def test_a_check_of_a_layer_that_the_guest_can_not_do_is_refused(machine: Machine):
    layers = _layers()
    layers[1].options.append("X-kata.dm-verity.roothash=00")

    with pytest.raises(AgentError) as caught:
        await machine.run("true", storages=layers)

    assert caught.value.code is Status.UNIMPLEMENTED


async def test_the_kernel_has_no_9p_and_that_is_said(machine: Machine):
    storage = pb.Storage(driver="9p", source="kataShared", fstype="9p", mount_point=place("9p"))

    with pytest.raises(AgentError, match="no file system 9p"):
        await machine.run("true", storages=[storage])


async def test_a_volume_of_the_share_has_statistics(machine: Machine):
    (machine.shared / "volume").mkdir(exist_ok=True)

    usage = (await machine.agent.storage.get_volume_stats(f"{SHARED}/volume")).usage

    on_host = os.statvfs(machine.shared)
    assert usage[0].total == on_host.f_blocks * on_host.f_frsize


@pytest.mark.parametrize("path", ["/", "/etc", f"{RUN}/../../etc", "relative"])
async def test_statistics_are_of_katas_tree_only(machine: Machine, path: str):
    with pytest.raises(AgentError) as caught:
        await machine.agent.storage.get_volume_stats(path)

    assert caught.value.code is Status.INVALID_ARGUMENT


async def test_what_does_not_grow_says_so(machine: Machine):
    with pytest.raises(AgentError, match="not on a disk"):
        await machine.agent.storage.resize_volume(f"{SHARED}/volume", MIB)


async def test_stale_mounts_are_let_go(machine: Machine):
    await machine.agent.storage.remove_stale_virtiofs_share_mounts()


async def test_memory_is_not_probed_for_where_acpi_tells(machine: Machine):
    with pytest.raises(AgentError, match="by ACPI"):
        await machine.agent.upkeep.mem_hotplug_by_probe([1 << 32])


class TestConfigMap:
    """As kubelet writes it: names are links through `..data`, and a new version is moved in by one rename."""

    async def test_a_new_version_arrives_whole_within_three_seconds(self, machine: Machine):
        volume = machine.shared / "config"
        publish(volume, 1)
        container_id = await self.watching(machine, "config", "while :; do sleep 1000; done")
        # All keys by one directory: what is read at one time is of one version.
        read = "cd /config; cat ..data/a ..data/b; cat key000 | head -c 20"

        publish(volume, 2)
        began = time.monotonic()
        seen = await until(lambda: machine.execute(container_id, read), lambda text: "a2" in text)
        took = time.monotonic() - began

        listing = await machine.execute(container_id, "cd /config; ls -a | wc -l; readlink key000; ls -d ..v*")
        size = await machine.execute(container_id, "cat /config/big | wc -c")
        await machine.agent.remove_container(container_id)
        print(f"a new version was seen after {took:.2f} s")
        assert took < FOLLOW_SECONDS
        assert seen.startswith("a2b2")
        assert "..data/key000" in listing
        assert "..v1" not in listing
        assert int(size) == 2 * MIB

    async def test_a_file_that_is_written_over_arrives(self, machine: Machine):
        file = machine.shared / "single"
        file.write_text("old")
        container_id = await self.watching(machine, "single", "sleep 1000", "/tmp/single")

        file.write_text("new content")
        await until(lambda: machine.execute(container_id, "cat /tmp/single"), lambda text: text == "new content")

        await machine.agent.remove_container(container_id)

    async def test_following_ends_with_the_container(self, machine: Machine):
        publish(machine.shared / "brief", 1)
        container_id = await self.watching(machine, "brief", "sleep 1000")

        await machine.agent.remove_container(container_id)

        assert "brief" not in await machine.output("ls /mnt", binds={"/mnt": f"{RUN}/sandbox"})

    async def watching(self, machine: Machine, name: str, script: str, destination: str = "/config") -> str:
        container_id = machine.name()
        target = f"{RUN}/sandbox/{name}"
        storage = pb.Storage(
            driver="watchable-bind", source=f"{SHARED}/{name}", fstype="bind", options=["bind"], mount_point=target
        )
        await machine.create(container_id, script, storages=[storage], binds={destination: target})
        await machine.agent.start_container(container_id)
        return container_id


def publish(volume: Path, version: int) -> None:
    """Write a version of a volume and move it in, in the order of Kubernetes' AtomicWriter."""
    volume.mkdir(exist_ok=True)
    data = volume / f"..v{version}"
    data.mkdir()
    keys = {"a": f"a{version}", "b": f"b{version}", "big": "x" * (2 * MIB)}
    keys |= {f"key{n:03}": f"{version}" * 20 for n in range(40)}
    for key, text in keys.items():
        (data / key).write_text(text)
    old = os.readlink(volume / "..data") if version > 1 else None
    (volume / "..data_tmp").symlink_to(data.name)
    (volume / "..data_tmp").rename(volume / "..data")
    for key in keys:
        if not (volume / key).is_symlink():
            (volume / key).symlink_to(f"..data/{key}")
    if old is not None:
        for path in (volume / old).iterdir():
            path.unlink()
        (volume / old).rmdir()


async def until(look, good) -> str:
    """What `look` shows once it is `good`."""
    async with asyncio.timeout(PATIENCE):
        while not good(text := await look()):
            pass
    return text
