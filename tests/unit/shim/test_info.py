"""`-info` is a RuntimeInfo that containerd can use."""

from __future__ import annotations

import json

from protos.lean.gen.containerd_types import RuntimeInfo
from shim import info
from shim.version import VERSION


def test_tells_name_and_version() -> None:
    told = RuntimeInfo.FromString(info.run())

    assert told.name == "io.containerd.kata.v2"
    assert told.version is not None
    assert told.version.version == VERSION


def test_features_are_an_oci_document_under_containerds_name() -> None:
    told = RuntimeInfo.FromString(info.run())

    assert told.features is not None
    assert told.features.type_url == "types.containerd.io/opencontainers/runtime-spec/1/features/Features"
    features = json.loads(told.features.value)
    assert features["ociVersionMin"] <= features["ociVersionMax"]
    assert "ro" in features["mountOptions"]


def test_promises_nothing_that_is_not_there() -> None:
    told = RuntimeInfo.FromString(info.run())
    assert told.features is not None
    features = json.loads(told.features.value)

    assert "rro" not in features["mountOptions"]
    assert "user" not in features["linux"]["namespaces"]
    assert not told.annotations


def test_tells_what_a_guest_gives_a_container() -> None:
    features = json.loads(info.features_json())

    assert {"prestart", "poststop"} <= set(features["hooks"])
    assert {"CAP_CHOWN", "CAP_BPF"} <= set(features["linux"]["capabilities"])
    assert len(features["linux"]["capabilities"]) == 41
    assert features["linux"]["mountExtensions"] == {"idmap": {"enabled": False}}


def test_warns_of_annotations_that_choose_programs_of_the_host() -> None:
    features = json.loads(info.features_json())

    assert features["potentiallyUnsafeConfigAnnotations"] == ["io.katacontainers.config."]
