"""The output directory: whole guests only, stable links, one builder at a time."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from guest.image import store
from guest.image.errors import BuildError
from guest.image.packages import Lock, Request
from guest.image.store import Store


def _publish(kept: Store, key: str, contents: bytes = b"x") -> Path:
    with kept.workspace() as work:
        built = work / "guest"
        built.mkdir()
        for name in store.FILES:
            (built / name).write_bytes(contents)
        return kept.publish(key, built, {"key": key})


@pytest.fixture
def kept(tmp_path: Path) -> Store:
    opened = Store(tmp_path / "out")
    opened.cache.mkdir(parents=True)
    return opened


def test_a_published_guest_is_found_by_its_key(kept: Store) -> None:
    directory = _publish(kept, "k1")

    assert kept.find("k1") == directory
    assert kept.find("k2") is None


@pytest.mark.parametrize("damage", ["truncate", "remove", "manifest", "no manifest"])
def test_a_guest_that_is_not_whole_is_not_found(kept: Store, damage: str) -> None:
    directory = _publish(kept, "k1")

    match damage:
        case "truncate":
            os.truncate(directory / store.IMAGE, 0)
        case "remove":
            (directory / store.KERNEL).unlink()
        case "manifest":
            (directory / store.MANIFEST).write_text("{")
        case _:
            (directory / store.MANIFEST).unlink()

    assert kept.find("k1") is None


def test_a_damaged_guest_is_replaced(kept: Store) -> None:
    os.truncate(_publish(kept, "k1") / store.IMAGE, 0)

    directory = _publish(kept, "k1", b"new")

    assert kept.find("k1") == directory
    assert (directory / store.IMAGE).read_bytes() == b"new"


def test_the_stable_names_follow_the_selected_guest(kept: Store) -> None:
    kept.select(_publish(kept, "k1", b"one"))
    kept.select(_publish(kept, "k2", b"two"))

    assert {(kept.out / name).read_bytes() for name in store.FILES} == {b"two"}
    assert not any(os.path.isabs(os.readlink(kept.out / name)) for name in store.FILES)


def test_guests_not_used_for_longest_are_forgotten(kept: Store) -> None:
    for number in range(5):
        directory = _publish(kept, f"k{number}")
        kept.select(directory)
        os.utime(directory, (number, number))
    kept.select(kept.cache / "k4")

    assert sorted(path.name for path in kept.cache.iterdir()) == ["k2", "k3", "k4"]


def test_what_a_killed_builder_left_is_cleared_away(kept: Store) -> None:
    (kept.cache / ".building-dead").mkdir()

    with kept.workspace() as work:
        assert [path for path in kept.cache.iterdir() if path.name.startswith(".")] == [work]

    assert list(kept.cache.iterdir()) == []


def test_a_second_builder_waits_for_the_first(kept: Store, capsys: pytest.CaptureFixture[str]) -> None:
    order: list[str] = []
    first_inside, may_leave = threading.Event(), threading.Event()

    def first() -> None:
        with kept.locked():
            first_inside.set()
            may_leave.wait(10)
            order.append("first")

    def second() -> None:
        with Store(kept.out).locked():
            order.append("second")

    threads = [threading.Thread(target=first), threading.Thread(target=second)]
    threads[0].start()
    assert first_inside.wait(10)
    threads[1].start()
    may_leave.set()
    for thread in threads:
        thread.join(10)

    assert order == ["first", "second"]


def test_an_unwritable_directory_is_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(BuildError, match="cannot write to"), Store(tmp_path / "file").locked():
        pass


def test_package_versions_are_kept_per_request(kept: Store) -> None:
    lock = Lock("bookworm", "linux", ())
    kept.save_lock(Request(), lock)

    assert kept.load_lock(Request()) == lock
    assert kept.load_lock(Request(mirror="http://other")) is None
