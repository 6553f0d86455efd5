"""Runtime options: only those meant for this kind of runtime count."""

from __future__ import annotations

import pytest

from protos.lean.gen.runtimeoptions_v1 import Options
from shim.errors import ShimError
from shim.options import config_body, config_path


def _options(**fields: object) -> bytes:
    return Options(**fields).SerializeToString()  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "type_url",
    ["runtimeoptions.v1.Options", "cri.runtimeoptions.v1.Options", "type.googleapis.com/runtimeoptions.v1.Options"],
)
def test_the_configuration_path_is_found(type_url: str) -> None:
    assert config_path(type_url, _options(config_path="/etc/kata/x.toml")) == "/etc/kata/x.toml"


def test_an_options_table_without_a_path_names_none() -> None:
    assert config_path("runtimeoptions.v1.Options", _options(config_body=b"BinaryName = 'x'")) == ""


@pytest.mark.parametrize("type_url", ["containerd.runc.v1.Options", "", "x.y.Z"])
def test_other_runtimes_options_are_ignored(type_url: str) -> None:
    assert config_path(type_url, b"\xff\xff\xff") == ""


@pytest.mark.parametrize("value", [b"\x12\xff", _options(config_path="relative.toml")])
def test_malformed_options_are_an_error(value: bytes) -> None:
    with pytest.raises(ShimError, match="options"):
        config_path("runtimeoptions.v1.Options", value)


def test_a_table_of_options_without_a_path_is_a_configuration() -> None:
    body = "[runtime]\nenable_debug = true\n"
    assert config_body("runtimeoptions.v1.Options", _options(config_body=body.encode())) == body


def test_a_path_wins_over_a_table_and_other_runtimes_tables_are_ignored() -> None:
    both = _options(config_path="/etc/k.toml", config_body=b"[runtime]\n")
    assert config_body("runtimeoptions.v1.Options", both) == ""
    assert config_body("containerd.runc.v1.Options", _options(config_body=b"[runtime]\n")) == ""


def test_a_table_that_is_no_text_is_an_error() -> None:
    with pytest.raises(ShimError, match="not UTF-8 text"):
        config_body("runtimeoptions.v1.Options", _options(config_body=b"\xff"))
