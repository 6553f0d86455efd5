"""Contract: a template is there whole or not at all, one is built at a time, and what is of no use is dropped."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import logging
import os
import time
from pathlib import Path

import pytest

from hypervisor.errors import HypervisorError
from hypervisor.template.place import fallback, home, is_store
from hypervisor.template.store import KEY_LENGTH, MEMORY, MOST, NEW, STATE, TemplateStore

KEY = "a" * KEY_LENGTH
DAY = 86400.0


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def store(tmp_path: Path) -> TemplateStore:
    return TemplateStore(tmp_path / "store", digest, DAY)


def build(store: TemplateStore, key: str = KEY) -> Path:
    with store.building(key) as place:
        assert place is not None
        (place / MEMORY).write_bytes(b"m" * 4096)
        (place / STATE).write_bytes(b"state")
        store.publish(key)
    return store.root / key


def test_what_was_built_is_found_and_readable_after_it_is_dropped(store):
    build(store)

    template = store.open(KEY)
    store.drop(KEY, "the test says so")

    assert template is not None
    assert os.pread(template.memory, 1, 0) == b"m"
    assert os.pread(template.state, 100, 0) == b"state"
    template.close()
    template.close()
    assert store.open(KEY) is None


def test_there_is_nothing_before_it_is_published_nor_when_it_is_not(store):
    with store.building(KEY) as place:
        assert place is not None
        (place / MEMORY).write_bytes(b"half")
        assert store.open(KEY) is None

    assert not (store.root / NEW).exists()


def test_a_second_builder_has_nothing_to_do_while_the_first_builds_and_afterwards(store):
    with store.building(KEY) as first, store.building("b" * KEY_LENGTH) as second:
        assert first is not None
        assert second is None

    build(store)
    with store.building(KEY) as third:
        assert third is None


def test_what_a_dead_builder_left_is_removed_by_the_next(store):
    (store.root / NEW).mkdir(mode=0o700, parents=True)
    store.root.chmod(0o700)
    (store.root / NEW / MEMORY).write_bytes(b"left")

    with store.building(KEY) as place:
        assert place is not None
        assert list(place.iterdir()) == []


def test_a_living_builder_is_left_alone_by_a_sweep(store):
    with store.building(KEY) as place:
        assert place is not None
        store.sweep()
        assert place.exists()


def change_memory(place: Path) -> None:
    with (place / MEMORY).open("r+b") as file:
        file.write(b"x")
    os.utime(place / MEMORY, ns=(1, 1))


DAMAGES = {
    "its state is not what was saved": lambda place: (place / STATE).write_bytes(b"stale"),
    "its memory has changed": change_memory,
    "manifest is not one": lambda place: (place / "manifest.json").write_text("[]"),
    "No such file": lambda place: (place / STATE).unlink(),
    "template_max_age": lambda place: (place / "manifest.json").write_text(
        json.dumps(json.loads((place / "manifest.json").read_text()) | {"created": 0})
    ),
}


@pytest.mark.parametrize("why", DAMAGES)
def test_one_of_no_use_is_dropped_with_one_line(store, caplog, why):
    DAMAGES[why](build(store))

    with caplog.at_level(logging.WARNING):
        assert store.open(KEY) is None

    assert [why in record.getMessage() for record in caplog.records] == [True]
    assert not (store.root / KEY).exists()


def test_one_that_this_process_has_no_room_for_is_left_to_others(store, monkeypatch):
    build(store)
    with monkeypatch.context() as patch:
        patch.setattr(os, "pread", lambda *_: (_ for _ in ()).throw(OSError(errno.EMFILE, "Too many open files")))
        assert store.open(KEY) is None

    template = store.open(KEY)

    assert template is not None
    template.close()


def test_a_build_that_failed_is_not_tried_again_at_once(store):
    with store.building(KEY):
        store.mark_failed(KEY)

    with store.building(KEY) as place:
        assert place is None
    os.utime(store.root / f"{KEY}.failed", (0, 0))
    with store.building(KEY) as place:
        assert place is not None


def test_a_store_that_others_may_write_to_is_refused(store):
    build(store)
    store.root.chmod(0o777)

    with pytest.raises(HypervisorError, match="alone"), store.building(KEY):
        pass
    assert store.open(KEY) is None


def test_a_sweep_removes_the_old_and_keeps_the_young(store):
    old, young = build(store, "1" * KEY_LENGTH), build(store, "2" * KEY_LENGTH)
    past = time.time() - 2 * DAY
    os.utime(old, (past, past))

    store.sweep()

    assert (old.exists(), young.exists()) == (False, True)


def test_there_are_never_more_than_so_many(store):
    for index in range(MOST + 2):
        place = build(store, f"{index:0{KEY_LENGTH}x}")
        os.utime(place, (time.time() - 100 + index,) * 2)

    kept = sorted(path.name for path in store.root.iterdir() if path.is_dir())
    assert kept == [f"{index:0{KEY_LENGTH}x}" for index in range(2, MOST + 2)]


def test_the_lock_goes_with_its_holder(store):
    build(store)
    with (store.root / "lock").open() as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with store.building("b" * KEY_LENGTH) as place:
            assert place is None
    with store.building("b" * KEY_LENGTH) as place:
        assert place is not None


MOUNTS = "1 0 0:1 / / rw - ext4 /dev/vda rw\n2 1 0:2 / /run rw - tmpfs tmpfs rw\n3 2 0:3 / /run/disk rw - xfs x rw\n"


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ("/run/vc/vm/template", "/run/vc/vm/template"),
        ("/run/disk/template", "/shm/kata-template-run-disk-template"),
        ("/var/lib/a-b", "/shm/kata-template-var-lib-a--b"),
    ],
)
def test_the_store_is_in_memory_whatever_is_configured(wanted, expected):
    assert home(Path(wanted), MOUNTS, Path("/shm")) == Path(expected)


def test_only_a_store_is_taken_for_one(store, tmp_path):
    build(store)

    assert is_store(store.root)
    assert not is_store(tmp_path)
    assert not is_store(fallback(Path("/nowhere"), tmp_path))
