"""The key of a guest: every input changes it, nothing else does."""

from __future__ import annotations

from dataclasses import replace

from guest.image import inputs
from guest.image.packages import Lock, Package

A = Package("a", "1", "a_1_all.deb", "00")
B = Package("b", "1", "b_1_all.deb", "11")
LOCK = Lock("bookworm", "a", (A, B))
BUILDER = {"builder.py": b"code"}
SOURCES = {"guest/agent/main.py": b"code", "ttrpc/frame.py": b"code"}


def test_the_order_of_inputs_does_not_matter() -> None:
    turned = replace(LOCK, packages=(B, A))

    assert inputs.key(turned, BUILDER, dict(reversed(SOURCES.items()))) == inputs.key(LOCK, BUILDER, SOURCES)


def test_every_input_changes_the_key() -> None:
    keys = [
        inputs.key(LOCK, BUILDER, SOURCES),
        inputs.key(LOCK, {"builder.py": b"other"}, SOURCES),
        inputs.key(LOCK, {"other.py": b"code"}, SOURCES),
        inputs.key(LOCK, BUILDER, {**SOURCES, "ttrpc/frame.py": b"other"}),
        inputs.key(LOCK, BUILDER, {"guest/agent/main.py": b"code"}),
        inputs.key(LOCK, {}, {**SOURCES, **BUILDER}),
        inputs.key(replace(LOCK, suite="trixie"), BUILDER, SOURCES),
        inputs.key(replace(LOCK, kernel="b"), BUILDER, SOURCES),
        inputs.key(replace(LOCK, packages=(A,)), BUILDER, SOURCES),
        inputs.key(replace(LOCK, packages=(A, replace(B, version="2"))), BUILDER, SOURCES),
        inputs.key(replace(LOCK, packages=(A, replace(B, sha256="22"))), BUILDER, SOURCES),
    ]

    assert len(set(keys)) == len(keys)


def test_the_builders_own_files_are_inputs() -> None:
    assert {"init.sh", "launcher.py", "contents.py", "modules.py"} <= set(inputs.builder_files())
