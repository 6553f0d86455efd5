"""Root file systems and mounts: what the guest writes is on the host, what it must not write it can't, and back."""

from __future__ import annotations

import hashlib
import os
import shlex
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.harness.bed import Bed
from tests.harness.command import run
from tests.harness.images import BUSYBOX, Image, Layer, archive, standard_images
from tests.harness.waiting import eventually
from tests.integration.system import specs
from tests.integration.system.vm import Vm

pytestmark = pytest.mark.integration

MIB = 1 << 20


def _upper(vm: Vm, container: str) -> Path:
    """The writable layer of a container's snapshot on the host."""
    words = shlex.split(vm.ctr("snapshots", "mounts", "/target", container).check().text)
    options = dict(option.split("=", 1) for option in words[-1].split(",") if "=" in option)
    return Path(options["upperdir"])


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_what_a_container_writes_is_in_its_snapshot(vm: Vm) -> None:
    script = (
        "echo hello > /root/made; chown 1000:2000 /root/made; chmod 4711 /root/made; ln -s made /root/link;"
        "ln /root/made /root/hard; mkdir /root/directory; mkfifo /root/fifo; rm /etc/group; rmdir /home/app"
    )
    with vm.image_container() as container:
        vm.exec(container, "sh", "-c", script).check()

        upper = _upper(vm, container)
        made = (upper / "root/made").stat()
        assert (upper / "root/made").read_text() == "hello\n"
        assert (made.st_uid, made.st_gid, stat.S_IMODE(made.st_mode), made.st_nlink) == (1000, 2000, 0o4711, 2)
        assert os.readlink(upper / "root/link") == "made"
        assert (upper / "root/directory").is_dir()
        assert (upper / "root/fifo").is_fifo()
        # overlayfs' mark of a file that was deleted.
        assert (upper / "etc/group").is_char_device()


def test_a_container_does_not_see_what_another_of_the_same_image_wrote(vm: Vm) -> None:
    with vm.image_container() as first, vm.image_container() as second:
        vm.exec(first, "touch", "/tmp/mine").check()

        assert vm.exec(first, "ls", "/tmp").text == "mine"
        assert vm.exec(second, "ls", "/tmp").text == ""


def test_a_large_file_survives_the_way_to_the_snapshot_and_back(vm: Vm) -> None:
    script = "head -c 16777216 /dev/urandom > /root/large; sha256sum < /root/large"
    with vm.image_container() as container:
        inside = vm.exec(container, "sh", "-c", script).check().text.split()[0]
        data = (_upper(vm, container) / "root/large").read_bytes()

    assert len(data) == 16 * MIB
    assert _sha256(data) == inside


def test_a_read_only_root_cannot_be_written_but_its_tmpfs_can(vm: Vm) -> None:
    done = vm.run("sh", "-c", "echo x > /run/x && cat /run/x; touch /etc/x", options=("--read-only",))

    assert done.text == "x"
    assert done.returncode != 0
    assert "/etc/x: Read-only file system" in done.error_text


def test_a_directory_of_the_host_can_be_the_root(vm: Vm, tmp_path: Path) -> None:
    root = specs.unpack_root(tmp_path / "root")
    (root / "marker").write_text("of the host")

    done = vm.run("/bin/sh", "-c", "cat /marker; echo of the guest > /answer", options=("--rootfs",), image=str(root))

    assert done.check().text == "of the host"
    assert (root / "answer").read_text() == "of the guest\n"


def test_a_root_of_many_layers_has_the_content_of_all(vm: Vm) -> None:
    count = 70
    layers = [
        Layer({"layers": None, f"layers/{number}": b"", "top": f"{number}\n".encode()}, {"top": 0o644})
        for number in range(count)
    ]
    base = next(one for one in standard_images() if one.name == BUSYBOX)
    image = Image("localhost/bed/tall:1", [*base.layers, *layers], command=["sh"])
    file = vm.bed.directory / "tall.tar"
    file.write_bytes(archive([image]))
    vm.ctr.import_archive(file)

    with vm.image_container(image=image.name) as container:
        options = vm.ctr("snapshots", "mounts", "/target", container).check().text
        done = vm.exec(container, "sh", "-c", "ls /layers | wc -l; cat /top; echo new > /top; cat /top")
        written = (_upper(vm, container) / "top").read_text()

    # A page is what mount(2) takes.
    assert len(options) > 4096
    assert done.check().text.split() == [str(count), str(count - 1), "new"]
    assert written == "new\n"


def test_a_tmpfs_is_the_guests_and_has_its_size(vm: Vm) -> None:
    script = "df -k /scratch | tail -n 1; dd if=/dev/zero of=/scratch/large bs=1M count=3"

    done = vm.run("sh", "-c", script, options=("--mount", "type=tmpfs,src=tmpfs,dst=/scratch,options=size=2m:nosuid"))

    assert done.text.split()[1] == "2048"
    assert done.returncode != 0
    assert "No space left on device" in done.error_text


def test_a_directory_is_shared_both_ways(vm: Vm, tmp_path: Path) -> None:
    data = os.urandom(5 * MIB + 17)
    (tmp_path / "from-host").write_bytes(data)
    script = (
        "sha256sum < /data/from-host; head -c 5000017 /dev/urandom > /data/from-guest; sha256sum < /data/from-guest"
    )

    done = vm.run_spec("sh", "-c", script, mounts=[specs.bind(tmp_path, "/data", "rw")])

    seen, made = (line.split()[0] for line in done.check().text.splitlines())
    assert seen == _sha256(data)
    assert made == _sha256((tmp_path / "from-guest").read_bytes())


def test_a_change_on_the_host_is_seen_by_a_running_container(vm: Vm, tmp_path: Path) -> None:
    (tmp_path / "old").write_text("one")
    with vm.container(mounts=[specs.bind(tmp_path, "/data")]) as container:
        assert vm.exec(container, "sh", "-c", "cat /data/old; ls /data").check().text == "oneold"

        (tmp_path / "old").write_text("two, and longer")
        (tmp_path / "new").write_text("here")

        def seen() -> bool:
            return vm.exec(container, "cat", "/data/new", "/data/old").text == "heretwo, and longer"

        # virtiofs may believe what it knows of a file for a second.
        eventually(seen, "the change is seen", timeout=5)


def test_a_single_file_is_shared_and_nothing_beside_it(vm: Vm, tmp_path: Path) -> None:
    (tmp_path / "shown").write_text("shown")
    (tmp_path / "hidden").write_text("hidden")

    script = "cat /var/shown; echo more >> /var/shown; ls /var"

    done = vm.run_spec("sh", "-c", script, mounts=[specs.bind(tmp_path / "shown", "/var/shown")])

    assert done.check().text == "shownshown"
    assert (tmp_path / "shown").read_text() == "shownmore\n"


@pytest.mark.parametrize("what", ["directory", "file"])
def test_a_read_only_mount_cannot_be_written_even_by_a_guest_that_remounts_it(
    vm: Vm, tmp_path: Path, what: str
) -> None:
    file = tmp_path / "file"
    file.write_text("untouched")
    source, path = (tmp_path, "/data/file") if what == "directory" else (file, "/data")
    script = (
        f"cat {path}; echo x >> {path} || echo refused; mount -o remount,rw,bind /data;"
        f"echo x >> {path} || echo refused; chmod 777 {path} || echo refused; rm -f {path} 2>/dev/null || echo refused"
    )

    done = vm.run(
        "sh",
        "-c",
        script,
        options=("--cap-add", "CAP_SYS_ADMIN", "--mount", f"type=bind,src={source},dst=/data,options=rbind:ro"),
    )

    assert done.text == "untouched" + "refused\n" * 3 + "refused"
    assert file.read_text() == "untouched"
    assert stat.S_IMODE(file.stat().st_mode) != 0o777


@contextmanager
def _mounted(directory: Path) -> Iterator[Path]:
    directory.mkdir()
    run("mount", "-t", "tmpfs", "none", directory).check()
    try:
        yield directory
    finally:
        run("umount", directory).check()


def test_a_mount_below_the_source_comes_along_where_asked_and_as_read_only_as_its_parent(
    bed: Bed, tmp_path: Path, nothing_left: None
) -> None:
    # A VM of its own, booted after the mount: where the host's root is not shared, the pod sees no later ones.
    vm = Vm(bed, "below")
    with _mounted(tmp_path / "below") as below:
        (below / "file").write_text("below")
        mounts = [
            specs.bind(tmp_path, "/with", "rw"),
            {**specs.bind(tmp_path, "/without"), "options": ["bind"]},
            specs.bind(tmp_path, "/readonly", "ro"),
        ]
        vm.boot()

        done = vm.run_spec(
            "sh",
            "-c",
            "cat /with/below/file; ls /without/below | wc -l; touch /with/below/new; echo x > /readonly/below/file",
            mounts=mounts,
        )

        assert done.text == "below0"
        assert "Read-only file system" in done.error_text
        assert (below / "new").exists()
        assert (below / "file").read_text() == "below"
        vm.remove()


def test_resolv_conf_hosts_and_hostname_files_of_the_host_are_the_containers(vm: Vm, tmp_path: Path) -> None:
    files = {"resolv.conf": "nameserver 192.0.2.53\nsearch test\n", "hosts": "192.0.2.1 one\n", "hostname": "named\n"}
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    mounts = [specs.bind(tmp_path / name, f"/etc/{name}", "ro") for name in files]

    done = vm.run_spec("sh", "-c", "cd /etc; cat resolv.conf hosts hostname", mounts=mounts)

    assert done.check().text + "\n" == "".join(files.values())


def test_a_source_that_is_missing_is_named_and_leaves_the_pod_alone(vm: Vm, tmp_path: Path) -> None:
    missing = tmp_path / "not-there"

    done = vm.run_spec("true", mounts=[specs.bind(missing, "/data")])

    assert done.returncode != 0
    assert str(missing) in done.error_text
    assert "No such file or directory" in done.error_text
    assert vm.run_spec("echo", "alive").check().text == "alive"


def test_names_that_look_like_options_or_separators_are_only_names(vm: Vm, tmp_path: Path) -> None:
    source = tmp_path / "a b:c,d=é"
    source.mkdir()
    (source / "file").write_text("odd")
    (tmp_path / "link").symlink_to(source)
    mounts = [specs.bind(source, "/e f,g:ü"), specs.bind(tmp_path / "link", "/through link")]

    done = vm.run_spec("sh", "-c", "cat '/e f,g:ü/file' '/through link/file'", mounts=mounts)

    assert done.check().text == "oddodd"


def test_a_destination_below_a_symbolic_link_stays_in_the_container(vm: Vm, tmp_path: Path) -> None:
    root = specs.unpack_root(tmp_path / "root")
    (root / "var" / "link").symlink_to("/run")
    (root / "var" / "up").symlink_to("../../../../../../../home")
    (tmp_path / "secret").write_text("secret")
    mounts = [
        specs.bind(tmp_path / "secret", "/var/link/secrets/one"),
        specs.bind(tmp_path / "secret", "/var/up/secrets/two"),
    ]

    done = vm.run_spec("cat", "/run/secrets/one", "/home/secrets/two", mounts=mounts, root=root)

    assert done.check().text == "secretsecret"


def test_sockets_and_fifos_of_the_host_can_be_mounted(vm: Vm, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(tmp_path / "sock"))
        mounts = [specs.bind(tmp_path / name, f"/given/{name}") for name in ("fifo", "sock")]

        done = vm.run_spec("sh", "-c", "test -p /given/fifo && test -S /given/sock", mounts=mounts)

    assert done.returncode == 0, done.error_text


def test_many_mounts_in_one_container(vm: Vm, tmp_path: Path) -> None:
    mounts = []
    for number in range(40):
        (tmp_path / str(number)).write_text(f"{number}\n")
        mounts.append(specs.bind(tmp_path / str(number), f"/many/{number}", "ro"))

    done = vm.run_spec("sh", "-c", "cat /many/* | sort -n | tail -n 1; ls /many | wc -l", mounts=mounts)

    assert done.check().text.split() == ["39", "40"]
