"""Contract: what arrives in a guest is what is on the host, with as few calls waiting for each other as is safe."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from grpclib.const import Status

from agent_client.errors import AgentError
from sandbox.errors import InvalidArgumentError
from sandbox.sharing import tree
from sandbox.sharing.sending import rounds, send_tree
from sandbox.sharing.tree import CHUNK, Piece, Tree
from tests.fakes.guest_files import GuestFiles

pytestmark = pytest.mark.anyio

TARGET = "/run/kata-containers/shared/containers/c1/rootfs"


def piece(path: str, kind: int = stat.S_IFREG) -> Piece:
    return Piece(path, kind | 0o600, 0, 0)


async def test_a_tree_arrives_whole(tmp_path: Path):
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "conf").write_bytes(os.urandom(2 * CHUNK + 7))
    (tmp_path / "etc" / "empty").touch()
    (tmp_path / "link").symlink_to("etc/conf")
    for number in range(50):
        (tmp_path / "etc" / f"name.{number}").write_text(str(number))
    guest = GuestFiles()
    await send_tree(guest, Tree(tmp_path), TARGET)
    assert guest.read(f"{TARGET}/etc/conf") == (tmp_path / "etc" / "conf").read_bytes()
    assert guest.read(f"{TARGET}/link") == (tmp_path / "etc" / "conf").read_bytes()
    assert guest.entries[f"{TARGET}/etc/empty"].data == b""
    assert [guest.read(f"{TARGET}/etc/name.{number}") for number in range(50)] == [b"%d" % n for n in range(50)]
    assert not any(path.endswith(".tmp") for path in guest.entries)
    assert len(guest.entries) == 56


async def test_nothing_is_sent_of_what_is_too_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(tree, "MAX_ENTRIES", 30)
    for number in range(31):
        (tmp_path / str(number)).touch()
    guest = GuestFiles()
    with pytest.raises(InvalidArgumentError, match="more than 30 entries"):
        await send_tree(guest, Tree(tmp_path), TARGET)
    assert guest.order == []


async def test_a_guest_that_refuses_is_told_as_it_says(tmp_path: Path):
    for number in range(40):
        (tmp_path / str(number)).touch()
    guest = GuestFiles()
    guest.failures[f"{TARGET}/7"] = AgentError("CopyFile", Status.RESOURCE_EXHAUSTED, "No space left on device")
    with pytest.raises(AgentError, match="No space left on device"):
        await send_tree(guest, Tree(tmp_path), TARGET)


def test_files_go_together_but_not_with_their_directory():
    directory, one, two = piece("d", stat.S_IFDIR), piece("d/1"), piece("d/2")
    assert list(rounds([directory, one, two])) == [[directory], [one, two]]
    assert list(rounds([one, two, directory])) == [[one, two], [directory]]
    assert list(rounds([])) == []


@pytest.mark.parametrize(
    ("first", "second"), [("d/a.conf", "d/a.json"), ("d/a", "d/a.x"), ("d/a", "d/a"), ("x", "x.y")]
)
def test_files_whose_parts_would_mix_in_kata_s_agent_go_one_after_the_other(first: str, second: str):
    one, two = piece(first), piece(second)
    assert list(rounds([one, two])) == [[one], [two]]


@pytest.mark.parametrize(("first", "second"), [("d/a.b.c", "d/a.c"), ("d/a.x", "e/a.x"), (".profile", ".bashrc")])
def test_other_names_don_t_wait(first: str, second: str):
    one, two = piece(first), piece(second)
    assert list(rounds([one, two])) == [[one, two]]
