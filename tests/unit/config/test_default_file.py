"""`config/default.toml`, which `make install` lays down: it says what the code says."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest

import config
from config import load
from config.keys import keys_of
from config.loader import TYPED

DEFAULT = Path(config.__file__).with_name("default.toml")
_COMMENTED_KEY = re.compile(r"^#([a-z0-9_]+ = )", re.MULTILINE)


def defaults_of(section: str) -> dict[str, object]:
    return {name: key.default for name, key in keys_of(TYPED[section]).items()}


@pytest.mark.parametrize("uncomment", [False, True], ids=["as it is", "with every key switched on"])
def test_it_loads_to_exactly_the_defaults(write, uncomment):
    text = DEFAULT.read_text()
    path = write(_COMMENTED_KEY.sub(r"\1", text) if uncomment else text)

    loaded = load(path)

    assert loaded.ignored == ()
    for section, value in {
        "agent.kata": loaded.agent,
        "runtime": loaded.runtime,
        "factory": loaded.factory,
        "hypervisor.qemu": dataclasses.replace(
            loaded.hypervisor, virtio_fs_daemon=defaults_of("hypervisor.qemu")["virtio_fs_daemon"]
        ),
    }.items():
        assert {name: getattr(value, name) for name in defaults_of(section)} == defaults_of(section)


def test_it_mentions_every_key_of_every_section_once(write):
    loaded = load(write(_COMMENTED_KEY.sub(r"\1", DEFAULT.read_text())))

    expected = {(section, name) for section in TYPED for name in keys_of(TYPED[section])}
    assert set(loaded.origins) == expected


@pytest.mark.parametrize("section", TYPED)
def test_every_key_has_a_sentence_of_documentation_and_a_rule(section):
    for name, key in keys_of(TYPED[section]).items():
        assert re.match(r"[A-Z\"].*\.$", key.doc), name
        assert key.rule.expects, name


@pytest.mark.parametrize("section", TYPED)
def test_every_field_is_a_key(section):
    assert [each.name for each in dataclasses.fields(TYPED[section])] == list(keys_of(TYPED[section]))
