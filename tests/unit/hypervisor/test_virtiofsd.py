"""The life of a virtiofsd, with scripts in its place."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import anyio
import pytest

from hypervisor.errors import HypervisorError, IllegalStateError
from hypervisor.virtiofsd import Virtiofsd, VirtiofsdSpec, detect_flavour

pytestmark = pytest.mark.anyio
PATIENCE = 5.0
MakeDaemon = Callable[[str], Virtiofsd]
RUST = 'if [ "$1" = --version ]; then echo virtiofsd 1.13.2; exit; fi\n'


def write(path: Path, body: str) -> Path:
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def make(tmp_path: Path) -> MakeDaemon:
    (tmp_path / "share").mkdir()

    def make(body: str) -> Virtiofsd:
        binary = write(tmp_path / "virtiofsd", body)
        return Virtiofsd(VirtiofsdSpec(binary, tmp_path / "share", tmp_path / "fs"))

    return make


async def test_it_is_started_with_the_arguments_of_its_flavour(make: MakeDaemon, tmp_path: Path):
    daemon = make(RUST + 'echo "$@"')
    await daemon.start(PATIENCE)
    with anyio.fail_after(PATIENCE):
        await daemon.wait()
    assert f"--shared-dir={tmp_path}/share" in daemon.stderr_tail


async def test_its_end_is_told_and_its_socket_removed(make: MakeDaemon, tmp_path: Path):
    daemon = make(RUST + "echo no space >&2; exit 1")
    await daemon.start(PATIENCE)
    assert (tmp_path / "fs").exists()
    with anyio.fail_after(PATIENCE):
        assert await daemon.wait() == "virtiofsd exited with status 1: no space"
    assert not (tmp_path / "fs").exists()


async def test_kill_ends_it_and_start_after_that_is_illegal(make: MakeDaemon):
    daemon = make(RUST + "exec sleep 60")
    await daemon.start(PATIENCE)
    daemon.kill()
    with anyio.fail_after(PATIENCE):
        assert await daemon.wait() == "virtiofsd was killed by SIGKILL"
    with pytest.raises(IllegalStateError):
        await daemon.start(PATIENCE)


async def test_killed_before_its_start_it_never_starts(make: MakeDaemon):
    daemon = make(RUST)
    daemon.kill()
    with pytest.raises(IllegalStateError):
        await daemon.start(PATIENCE)
    with pytest.raises(IllegalStateError):
        await daemon.wait()
    assert (daemon.pid, daemon.exit_reason, daemon.stderr_tail) == (0, None, "")


@pytest.mark.parametrize(
    ("text", "flavour"),
    [
        ("virtiofsd 1.10.0", "rust"),
        ("virtiofsd backend 1.1.0", "rust"),
        ("virtiofsd version 7.2.22\\nusing FUSE kernel interface version 7.36", "c"),
    ],
)
async def test_a_wrapper_is_asked_for_its_flavour(tmp_path: Path, text: str, flavour: str):
    # The C flavour's mark is split in two, or the script itself would show it.
    marked = text.replace("interface version", "interface''  version".replace("  ", " "))
    binary = write(tmp_path / "wrapper", f"printf '{marked}\\n'")
    assert await detect_flavour(binary, PATIENCE) == flavour


async def test_a_binary_shows_its_flavour_without_being_run(tmp_path: Path):
    rust = tmp_path / "rust"
    rust.write_bytes(b"\x7fELF..../rustc/0123/library/std")
    assert await detect_flavour(rust, timeout=0) == "rust"
    rust.write_bytes(b"\x7fELF.... using FUSE kernel interface version %i.%i")
    assert await detect_flavour(rust, timeout=0) == "c"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("echo hello", "is no virtiofsd: virtiofsd exited with status 0: hello"),
        ("echo broken; exit 4", "is no virtiofsd: virtiofsd exited with status 4: broken"),
    ],
)
async def test_what_is_no_virtiofsd_is_told(make: MakeDaemon, body: str, message: str):
    with pytest.raises(HypervisorError, match=message):
        await make(body).start(PATIENCE)


async def test_a_wrapper_that_hangs_is_ended_at_the_deadline(make: MakeDaemon):
    with pytest.raises(HypervisorError, match=r"--version did not end within 0\.05 s"):
        await make("exec sleep 60").start(0.05)


async def test_an_empty_binary_is_told(tmp_path: Path):
    (tmp_path / "empty").touch()
    with pytest.raises(HypervisorError, match=r"can't read .*/empty"):
        await detect_flavour(tmp_path / "empty", PATIENCE)


async def test_a_start_that_fails_leaves_no_socket(make: MakeDaemon, tmp_path: Path):
    daemon = Virtiofsd(
        VirtiofsdSpec(write(tmp_path / "v", RUST), tmp_path / "share", tmp_path / "fs", cache="nonsense")
    )
    (tmp_path / "share").mkdir(exist_ok=True)
    with pytest.raises(HypervisorError, match="virtio_fs_cache 'nonsense'"):
        await daemon.start(PATIENCE)
    assert not (tmp_path / "fs").exists()
