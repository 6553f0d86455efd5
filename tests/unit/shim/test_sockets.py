"""Sockets: the names containerd expects, one daemon per name, nothing left behind."""

from __future__ import annotations

import hashlib
import os
import socket
import stat
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from shim import sockets
from shim.errors import ShimError


@pytest.fixture
def directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="s-", dir="/tmp") as name:
        yield Path(name) / "run" / "s"


def test_the_name_is_the_hash_that_gos_shims_use() -> None:
    joined = "/run/containerd/containerd.sock/k8s.io/abc"

    path = sockets.socket_path("/run/containerd/s", "/run/containerd/containerd.sock", "k8s.io", "abc")

    assert path == "/run/containerd/s/" + hashlib.sha256(joined.encode()).hexdigest()


@pytest.mark.parametrize(
    ("elements", "joined"),
    [(("", "ns", "id"), "ns/id"), (("/a//b/", "ns", "id"), "/a/b/ns/id"), (("//a", "ns", "id"), "/a/ns/id")],
)
def test_paths_are_joined_as_go_joins_them(elements: tuple[str, str, str], joined: str) -> None:
    path = sockets.socket_path("/d", *elements)

    assert path == "/d/" + hashlib.sha256(joined.encode()).hexdigest()


def test_a_path_the_kernel_cannot_bind_is_refused() -> None:
    with pytest.raises(ShimError, match="too long"):
        sockets.socket_path("/" + "d" * 50, "a", "n", "i")


def test_the_directory_is_containerds_word_before_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KATA_SHIM_SOCKET_DIR", "/test")
    assert sockets.socket_dir("/told") == "/told"
    assert sockets.socket_dir() == "/test"

    monkeypatch.delenv("KATA_SHIM_SOCKET_DIR")
    assert sockets.socket_dir() == "/run/containerd/s"


def test_a_claimed_socket_listens_and_is_roots_alone(directory: Path) -> None:
    path = str(directory / "x")

    listener = sockets.claim(path)

    assert listener is not None
    assert sockets.is_listening(path)
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    os.close(listener)


def test_a_socket_somebody_listens_on_is_not_claimed(directory: Path) -> None:
    path = str(directory / "x")
    listener = sockets.claim(path)

    assert sockets.claim(path) is None
    assert listener is not None
    os.close(listener)


def test_a_listener_with_a_full_backlog_still_listens(directory: Path) -> None:
    path = str(directory / "x")
    directory.mkdir(parents=True)
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as waiting:
        listener.bind(path)
        listener.listen(0)
        waiting.connect(path)

        assert sockets.is_listening(path)


def test_a_stale_socket_is_replaced(directory: Path) -> None:
    path = str(directory / "x")
    first = sockets.claim(path)
    assert first is not None
    os.close(first)

    second = sockets.claim(path)

    assert second is not None
    assert sockets.is_listening(path)
    os.close(second)


def test_of_many_at_once_one_claims_it(directory: Path) -> None:
    path = str(directory / "x")

    with ThreadPoolExecutor(16) as pool:
        claims = list(pool.map(lambda _: sockets.claim(path), range(64)))

    winners = [claim for claim in claims if claim is not None]
    assert len(winners) == 1
    os.close(winners[0])


def test_a_directory_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(ShimError, match="socket"):
        sockets.claim(str(tmp_path / "file" / "x"))


def test_only_ones_own_socket_is_removed(directory: Path) -> None:
    path = str(directory / "x")
    first = sockets.claim(path)
    assert first is not None
    mine = sockets.inode(path)
    os.close(first)
    # The old file stays under another name, so that the file system cannot give its inode to the new one.
    os.rename(path, path + ".old")
    second = sockets.claim(path)
    assert second is not None

    sockets.remove(path, mine)
    assert sockets.is_listening(path)

    sockets.remove(path, sockets.inode(path))
    assert not os.path.exists(path)
    sockets.remove(path, mine)
    os.close(second)


def test_a_stale_socket_is_removed_and_a_live_one_is_not(directory: Path) -> None:
    path = str(directory / "x")
    listener = sockets.claim(path)
    assert listener is not None

    sockets.remove_stale(path)
    assert os.path.exists(path)

    os.close(listener)
    sockets.remove_stale(path)
    assert list(directory.iterdir()) == []
    sockets.remove_stale(path)


def test_a_directory_that_stays_locked_is_an_error(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sockets, "LOCK_TIMEOUT", 0.02)
    directory.mkdir(parents=True)

    with sockets.DirectoryLock(str(directory)), pytest.raises(ShimError, match="stays locked"):
        sockets.claim(str(directory / "x"))


def test_addresses_and_paths_match() -> None:
    assert sockets.from_address(sockets.to_address("/run/s/x")) == "/run/s/x"
    assert sockets.to_address("/run/s/x") == "unix:///run/s/x"
