"""JSON Patch (RFC 6902), with which a policy's rule changes the policy's memory. Pure."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

MAX_OPERATIONS = 1024


class PatchError(ValueError):
    """The patch is malformed, or does not fit the document."""


def applied(document: Any, operations: Any) -> Any:
    """A copy of `document` with all of `operations` done; raises `PatchError`, and then nothing was."""
    if not isinstance(operations, list) or len(operations) > MAX_OPERATIONS:
        raise PatchError(f"a patch is a list of at most {MAX_OPERATIONS} operations")
    result = copy.deepcopy(document)
    for operation in operations:
        if not isinstance(operation, dict) or operation.get("op") not in _OPERATIONS:
            raise PatchError(f"{str(operation)[:200]} is no operation")
        result = _OPERATIONS[operation["op"]](result, operation)
    return result


def _add(document: Any, operation: dict[str, Any]) -> Any:
    return _put(document, _pointer(operation, "path"), copy.deepcopy(_member(operation, "value")))


def _remove(document: Any, operation: dict[str, Any]) -> Any:
    parts = _pointer(operation, "path")
    if not parts:
        return None
    parent = _get(document, parts[:-1])
    _get(parent, parts[-1:])
    if isinstance(parent, list):
        del parent[_index(parts[-1], len(parent) - 1)]
    else:
        del parent[parts[-1]]
    return document


def _replace(document: Any, operation: dict[str, Any]) -> Any:
    value = _member(operation, "value")
    return _add(_remove(document, operation), {**operation, "value": value})


def _move(document: Any, operation: dict[str, Any]) -> Any:
    source, target = _pointer(operation, "from"), _pointer(operation, "path")
    if len(target) > len(source) and target[: len(source)] == source:
        raise PatchError("a value can't be moved into itself")
    value = _get(document, source)
    return _put(_remove(document, {"path": operation["from"]}), target, value)


def _copy(document: Any, operation: dict[str, Any]) -> Any:
    value = copy.deepcopy(_get(document, _pointer(operation, "from")))
    return _put(document, _pointer(operation, "path"), value)


def _test(document: Any, operation: dict[str, Any]) -> Any:
    if not _same(_get(document, _pointer(operation, "path")), _member(operation, "value")):
        raise PatchError(f"the value at {operation['path'][:200]!r} is another one")
    return document


_OPERATIONS: dict[str, Callable[[Any, dict[str, Any]], Any]] = {
    "add": _add,
    "copy": _copy,
    "move": _move,
    "remove": _remove,
    "replace": _replace,
    "test": _test,
}


def _member(operation: dict[str, Any], name: str) -> Any:
    if name not in operation:
        raise PatchError(f"the operation {operation['op']} lacks {name!r}")
    return operation[name]


def _pointer(operation: dict[str, Any], name: str) -> list[str]:
    """The reference tokens of a JSON Pointer (RFC 6901)."""
    text = operation.get(name)
    if not isinstance(text, str) or (text and not text.startswith("/")):
        raise PatchError(f"{name} {str(text)[:200]!r} is no JSON Pointer")
    return [part.replace("~1", "/").replace("~0", "~") for part in text.split("/")[1:]]


def _get(document: Any, parts: list[str]) -> Any:
    for part in parts:
        if isinstance(document, list):
            document = document[_index(part, len(document) - 1)]
        elif isinstance(document, dict) and part in document:
            document = document[part]
        else:
            raise PatchError(f"there is no {part[:200]!r}")
    return document


def _put(document: Any, parts: list[str], value: Any) -> Any:
    if not parts:
        return value
    parent, last = _get(document, parts[:-1]), parts[-1]
    if isinstance(parent, list):
        parent.insert(len(parent) if last == "-" else _index(last, len(parent)), value)
    elif isinstance(parent, dict):
        parent[last] = value
    else:
        raise PatchError(f"nothing can be put at {last[:200]!r}")
    return document


def _index(text: str, highest: int) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 9 or (text != "0" and text[0] == "0"):
        raise PatchError(f"{text[:200]!r} is no index")
    if int(text) > highest:
        raise PatchError(f"the index {text} is beyond the end")
    return int(text)


def _same(one: Any, other: Any) -> bool:
    """Equality of JSON values, where a number is never a truth value."""
    return isinstance(one, bool) is isinstance(other, bool) and bool(one == other)
