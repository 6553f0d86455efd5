"""The handshake of `start`, dialect by dialect."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protos.lean.gen.containerd_runtime_bootstrap_v1 import BootstrapParams, BootstrapResult, Extension
from protos.lean.gen.runtimeoptions_v1 import Options
from protos.lean.gen.wellknown import Any
from shim import bootstrap
from shim.errors import ShimError

ADDRESS = "unix:///run/containerd/s/abc"


def _options(path: str) -> Any:
    return Any(type_url="runtimeoptions.v1.Options", value=Options(config_path=path).SerializeToString())


def _params(**fields: object) -> bytes:
    return BootstrapParams(instance_id="c1", namespace="ns", **fields).SerializeToString()  # type: ignore[arg-type]


def test_nothing_is_containerd_before_2_3_without_options() -> None:
    told = bootstrap.parse(b"", "c1", "ns")

    assert (told.dialect, told.config_path) == (bootstrap.EMPTY, "")


def test_an_any_is_containerd_before_2_3_with_options() -> None:
    told = bootstrap.parse(_options("/etc/k.toml").SerializeToString(), "c1", "ns")

    assert (told.dialect, told.config_path) == (bootstrap.ANY, "/etc/k.toml")


def test_bootstrap_params_tell_everything() -> None:
    data = _params(
        log_level=-4,
        containerd_ttrpc_address="/run/c.sock.ttrpc",
        socket_dir="/run/x/s",
        extensions=[
            Extension(value=Any(type_url="containerd.runc.v1.Options", value=b"\xff")),
            Extension(value=_options("/etc/k.toml")),
        ],
    )

    told = bootstrap.parse(data, "c1", "ns")

    assert told.dialect == bootstrap.PARAMS
    assert told.config_path == "/etc/k.toml"
    assert told.ttrpc_address == "/run/c.sock.ttrpc"
    assert told.socket_dir == "/run/x/s"
    assert told.debug


def test_bootstrap_params_of_another_task_are_taken_for_options() -> None:
    told = bootstrap.parse(_params(), "c2", "ns")

    assert told.dialect == bootstrap.ANY


def test_an_any_that_decodes_as_params_is_still_an_any() -> None:
    data = Any(type_url="c1", value=b"other").SerializeToString()

    assert bootstrap.parse(data, "c1", "ns").dialect == bootstrap.ANY


@pytest.mark.parametrize("dialect", [bootstrap.EMPTY, bootstrap.ANY])
def test_the_old_dialects_hear_the_plain_address(dialect: str) -> None:
    assert bootstrap.answer(dialect, ADDRESS) == ADDRESS.encode()


def test_the_new_dialect_hears_a_result_of_version_2() -> None:
    answer = bootstrap.answer(bootstrap.PARAMS, ADDRESS)

    assert answer.hex() == "0802121c756e69783a2f2f2f72756e2f636f6e7461696e6572642f732f6162631a057474727063"
    assert BootstrapResult.FromString(answer).version == 2


def test_the_answers_last_byte_survives_trimming() -> None:
    answer = bootstrap.answer(bootstrap.PARAMS, ADDRESS)

    assert answer.rstrip() == answer


@given(st.binary(max_size=200))
def test_any_input_is_understood_or_refused_in_one_line(data: bytes) -> None:
    refusal = ""
    try:
        bootstrap.parse(data, "c1", "ns")
    except ShimError as error:
        refusal = str(error)

    assert "\n" not in refusal
