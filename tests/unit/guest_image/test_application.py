"""The Python code that goes into the guest."""

from __future__ import annotations

from pathlib import Path

import pytest

from guest.image import application
from guest.image.errors import BuildError


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with one module in each place that matters."""
    for name in (
        "guest/__init__.py",
        "guest/agent/main.py",
        "guest/image/builder.py",
        "ttrpc/frame.py",
        "protos/__init__.py",
        "protos/codec.py",
        "protos/rich.py",
        "protos/lean/wire.py",
        "protos/lean/gen/grpc.py",
        "protos/lean/gen/grpc.pyi",
        "protos/lean/generator/modules.py",
        "shim/app.py",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(f"# {name}\n")
    return tmp_path


def test_the_agent_and_what_it_stands_on_go_in_and_nothing_of_the_host(project: Path) -> None:
    found = application.sources(project)

    assert [name for name in found if not name.startswith(("grpclib/", "regopy"))] == [
        "guest/__init__.py",
        "guest/agent/main.py",
        "protos/__init__.py",
        "protos/codec.py",
        "protos/lean/gen/grpc.py",
        "protos/lean/wire.py",
        "ttrpc/frame.py",
    ]


def test_of_grpclib_only_the_types_go_in(project: Path) -> None:
    names = [name for name in application.sources(project) if name.startswith("grpclib/")]

    assert names == ["grpclib/__init__.py", "grpclib/const.py", "grpclib/exceptions.py"]


def test_the_policy_engine_goes_in_with_its_library_and_those_that_it_brings(project: Path) -> None:
    names = [name for name in application.sources(project) if name.startswith("regopy")]

    assert {"regopy/__init__.py", "regopy/librego_shared.so"} <= set(names)
    assert any(name.startswith("regopy.libs/libcrypto") for name in names)
    assert not any("__pycache__" in name for name in names)


@pytest.mark.parametrize("name", ["guest/agent/main.py", "protos/codec.py"])
def test_a_missing_source_is_an_error_that_names_it(project: Path, name: str) -> None:
    (project / name).unlink()

    with pytest.raises(BuildError, match=f"{name} is missing"):
        application.sources(project)
