"""Which pod a bundle belongs to, by the annotations in its `config.json`.

A container of a pod shares the daemon of its sandbox; a sandbox, and a container that stands alone, gets one of its own
(containerd runtime v2, "Container Level Shims"; the keys are those of CRI, CRI-O and dockershim, as in Kata).
"""

from __future__ import annotations

import os

from sandbox.annotations import AnnotationError, ContainerKind, container_kind
from shim.errors import ShimError
from shim.identifiers import problem_with

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

#: Largest `config.json` that is read, in bytes; real ones are some ten kilobytes.
MAX_CONFIG = 16 << 20


class Group:
    """The pod of a bundle: its id, and whether the bundle is a further container of it (`is_member`) or makes it."""

    __slots__ = ("is_member", "sandbox_id")

    def __init__(self, sandbox_id: str, is_member: bool) -> None:
        self.sandbox_id = sandbox_id
        self.is_member = is_member


def group_of(container_id: str, annotations: Mapping[str, str]) -> Group:
    """The group of the container with these annotations; raises `ShimError` where they contradict themselves."""
    try:
        kind, sandbox_id = container_kind(annotations)
    except AnnotationError as error:
        raise ShimError(str(error)) from error
    if kind is not ContainerKind.CONTAINER or sandbox_id is None:
        return Group(container_id, is_member=False)
    problem = problem_with(sandbox_id)
    if problem:
        raise ShimError(f"sandbox id {sandbox_id[:80]!r} {problem}")
    return Group(sandbox_id, is_member=True)


def read_annotations(bundle: str) -> dict[str, str] | None:
    """Annotations of the bundle's `config.json`; None where there is no such file, as for a sandbox of the sandbox API.

    Raises `ShimError` if the file can't be read or is not the JSON of an OCI spec.
    """
    path = os.path.join(bundle, "config.json")
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ShimError(f"{path}: {error.strerror}") from error
    try:
        with open(fd, "rb") as file:
            data = file.read(MAX_CONFIG + 1)
    except OSError as error:
        raise ShimError(f"{path}: {error.strerror}") from error
    if len(data) > MAX_CONFIG:
        raise ShimError(f"{path}: larger than {MAX_CONFIG} bytes")
    return parse_annotations(data, path)


def parse_annotations(data: bytes, path: str = "config.json") -> dict[str, str]:
    """The `annotations` of an OCI spec; raises `ShimError` if `data` is not one."""
    try:
        spec = _loads(data.decode())
    except (ValueError, RecursionError) as error:
        raise ShimError(f"{path}: not valid JSON: {error}") from error
    annotations = spec.get("annotations") if isinstance(spec, dict) else []
    if annotations is None:
        return {}
    if not isinstance(annotations, dict) or not all(isinstance(value, str) for value in annotations.values()):
        raise ShimError(f"{path}: annotations must be an object of strings")
    return annotations


class _ScannerContext:
    """What the C scanner of the `json` package asks its decoder for."""

    strict = True
    object_hook = None
    object_pairs_hook = None
    parse_float = float
    parse_int = int
    parse_constant = float


_SCANNER: Any = _ScannerContext
_SPACE = " \t\r\n"


def _loads(text: str) -> Any:
    """`json.loads`, without the 7 ms that importing `json` takes where its C scanner can be had alone.

    That one is used for what is well-formed only: without `json` it can't even make its own errors.
    """
    try:
        from _json import make_scanner

        value, end = make_scanner(_SCANNER)(text, len(text) - len(text.lstrip(_SPACE)))
        if not text[end:].strip(_SPACE):
            return value
    except (ImportError, SystemError, ValueError, StopIteration):
        pass
    import json

    return json.loads(text)
