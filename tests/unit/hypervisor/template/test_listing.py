"""Contract: whoever asks sees every template, one that is broken too, and removes just what was named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hypervisor.errors import HypervisorError
from hypervisor.template.listing import chosen, listing
from hypervisor.template.store import FORMAT, KEY_LENGTH, MEMORY, STATE, TemplateStore

OLD, YOUNG = "a" * KEY_LENGTH, "b" * KEY_LENGTH


@pytest.fixture
def store(tmp_path: Path) -> TemplateStore:
    store = TemplateStore(tmp_path / "store", lambda _: "digest", 86400.0)
    for key in (OLD, YOUNG):
        with store.building(key) as place:
            assert place is not None
            (place / MEMORY).write_bytes(b"m" * 8192)
            (place / STATE).write_bytes(b"state")
            store.publish(key, b"said", {"vcpus": 1, "memory_mib": 256})
    manifest = store.root / OLD / "manifest.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"created": 1.0}))
    return store


def test_templates_are_listed_with_what_they_are(store):
    young, old = listing(store.root)

    assert (young.key, old.key) == (YOUNG, OLD)
    assert young.age < 60 < old.age
    assert young.size >= 8192
    assert (young.vm["memory_mib"], young.format, young.is_current) == (256, FORMAT, True)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"created": "x", "format": 1, "vm": {}}'])
def test_one_that_is_broken_is_seen_as_of_no_use(store, text):
    (store.root / OLD / "manifest.json").write_text(text)

    broken = next(one for one in listing(store.root) if one.key == OLD)

    assert (broken.is_current, dict(broken.vm)) == (False, {})


def test_what_a_clone_is_told_of_its_guest_is_what_the_builder_saw(store):
    template = store.open(YOUNG)

    assert template is not None
    assert template.guest == b"said"
    template.close()


def test_only_what_was_named_is_removed(store):
    store.remove([one.key for one in chosen(store.root, "aaa")])

    assert [one.key for one in listing(store.root)] == [YOUNG]
    assert sorted(path.name for path in store.root.iterdir()) == [YOUNG, "lock"]


def test_a_name_that_no_template_has_is_an_error(store):
    with pytest.raises(HypervisorError, match="no template ccc"):
        chosen(store.root, "ccc")


def test_without_a_store_there_is_nothing(tmp_path):
    assert listing(tmp_path / "none") == []
    assert chosen(tmp_path / "none", "") == []


def test_a_template_of_another_format_is_dropped(store, caplog):
    manifest = store.root / YOUNG / "manifest.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"format": FORMAT + 1}))

    assert store.open(YOUNG) is None
    assert "of format" in caplog.text


def test_what_could_not_be_built_can_be_tried_by_hand(store):
    store.remove([OLD])
    with store.building(OLD):
        store.mark_failed(OLD)

    store.retry(OLD)

    with store.building(OLD) as place:
        assert place is not None
