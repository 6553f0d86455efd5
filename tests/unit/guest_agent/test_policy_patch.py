"""JSON Patch, by the examples of RFC 6902's appendix and its rules."""

from __future__ import annotations

from typing import Any

import pytest

from guest.agent.policy.patch import MAX_OPERATIONS, PatchError, applied


@pytest.mark.parametrize(
    ("document", "operation", "result"),
    [
        ({"foo": "bar"}, {"op": "add", "path": "/baz", "value": "qux"}, {"baz": "qux", "foo": "bar"}),
        ({"foo": ["bar", "baz"]}, {"op": "add", "path": "/foo/1", "value": "qux"}, {"foo": ["bar", "qux", "baz"]}),
        ({"foo": ["bar"]}, {"op": "add", "path": "/foo/-", "value": ["abc"]}, {"foo": ["bar", ["abc"]]}),
        ({"baz": "qux", "foo": "bar"}, {"op": "remove", "path": "/baz"}, {"foo": "bar"}),
        ({"foo": ["bar", "qux", "baz"]}, {"op": "remove", "path": "/foo/1"}, {"foo": ["bar", "baz"]}),
        ({"baz": "qux"}, {"op": "replace", "path": "/baz", "value": "boo"}, {"baz": "boo"}),
        ({"a": {"b": 1}, "c": {}}, {"op": "move", "from": "/a/b", "path": "/c/d"}, {"a": {}, "c": {"d": 1}}),
        ({"foo": ["a", "b", "c"]}, {"op": "move", "from": "/foo/0", "path": "/foo/2"}, {"foo": ["b", "c", "a"]}),
        ({"a": [1]}, {"op": "copy", "from": "/a", "path": "/b"}, {"a": [1], "b": [1]}),
        ({"baz": "qux"}, {"op": "test", "path": "/baz", "value": "qux"}, {"baz": "qux"}),
        ({"/": 9, "~1": 10}, {"op": "test", "path": "/~01", "value": 10}, {"/": 9, "~1": 10}),
        ({"a": 1}, {"op": "replace", "path": "", "value": {"b": 2}}, {"b": 2}),
    ],
)
def test_operations_do_what_the_rfc_says(document: Any, operation: dict[str, Any], result: Any):
    assert applied(document, [operation]) == result


@pytest.mark.parametrize(
    "operation",
    [
        {"op": "add", "path": "/baz/bat", "value": 1},
        {"op": "add", "path": "/list/3", "value": 1},
        {"op": "add", "path": "/list/01", "value": 1},
        {"op": "add", "path": "/list/x", "value": 1},
        {"op": "add", "path": "/text/x", "value": 1},
        {"op": "add", "path": "baz", "value": 1},
        {"op": "add", "path": "/baz"},
        {"op": "remove", "path": "/nothing"},
        {"op": "remove", "path": "/list/-"},
        {"op": "replace", "path": "/nothing", "value": 1},
        {"op": "move", "from": "/object", "path": "/object/below"},
        {"op": "test", "path": "/number", "value": True},
        {"op": "test", "path": "/text", "value": "other"},
        {"op": "nonsense", "path": "/text"},
        {"path": "/text"},
        "text",
    ],
)
def test_what_does_not_fit_is_refused(operation: Any):
    document = {"list": [0, 1], "text": "x", "object": {"inner": 1}, "number": 1}

    with pytest.raises(PatchError):
        applied(document, [operation])


def test_a_patch_is_done_whole_or_not_at_all():
    document = {"a": 1}

    with pytest.raises(PatchError):
        applied(document, [{"op": "add", "path": "/b", "value": 2}, {"op": "remove", "path": "/nothing"}])

    assert document == {"a": 1}


@pytest.mark.parametrize(
    "operations", [{"op": "add"}, None, [{"op": "test", "path": "", "value": {}}] * (MAX_OPERATIONS + 1)]
)
def test_a_patch_is_a_list_and_not_endless(operations: Any):
    with pytest.raises(PatchError):
        applied({}, operations)
