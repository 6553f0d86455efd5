"""The rules of values, where loading a file does not show them."""

from __future__ import annotations

import datetime

import pytest

from config.errors import one_line, show
from config.rules import (
    MAX_ITEMS,
    AbsolutePath,
    Choice,
    Flag,
    Integer,
    ListOf,
    Number,
    OptionalPath,
    Pattern,
    Rule,
    RuleError,
    Text,
)

WORDS = ListOf(Text("a word", r"\w+"))


@pytest.mark.parametrize(
    ("rule", "value", "typed"),
    [
        (Flag(), True, True),
        (Integer(-3, 5), -3, -3),
        (Integer(1, 1024, power_of_two=True), 1024, 1024),
        (Number(8), 3, 3.0),
        (Text(), "a b", "a b"),
        (Choice(("a", "b")), "b", "b"),
        (Pattern(), "a.*", "a.*"),
        (OptionalPath(), "", None),
        (WORDS, ["a", "b"], ("a", "b")),
        (WORDS, [], ()),
    ],
)
def test_a_good_value_is_typed(rule: Rule, value, typed):
    parsed = rule.parse(value)

    assert parsed == typed
    assert type(parsed) is type(typed)


@pytest.mark.parametrize(
    ("rule", "value", "words"),
    [
        (Text(longest=3), "abcd", "must be at most 3 characters, is 4"),
        (Text(), "a\u2028b", "must be a printable string on one line"),
        (Text(), None, "is a NoneType"),
        (WORDS, "ab", "must be a list, each item a word, is the string"),
        (WORDS, ["a", "b c"], 'item 1 must be a word, is the string "b c"'),
        (WORDS, ["a"] * (MAX_ITEMS + 1), "must have at most 256 items, has 257"),
        (WORDS, [["a"]], "item 0 must be a word, is an array"),
        (Choice(("a",), ("b",)), "b", '"b" is not implemented by this runtime; must be "a"'),
        (Choice(("a",)), ["a"], 'must be "a", is an array'),
        (Integer(0, 9), datetime.date(2020, 1, 1), "is a date"),
        (Integer(0, 9, power_of_two=True), 0, "must be a power of two"),
        (AbsolutePath(), "", "must be an absolute path"),
        (Pattern(), 5, "must be a regular expression, is 5"),
        (Number(8), -(10**400), "must be a number of at most 8, is -1000"),
        (Number(8), float("-inf"), "must be a number of at most 8, is -inf"),
    ],
)
def test_a_bad_value_says_what_is_expected_and_what_it_is(rule: Rule, value, words):
    with pytest.raises(RuleError) as caught:
        rule.parse(value)

    assert words in str(caught.value)


def test_messages_are_printable_on_one_line():
    assert one_line("a\n\tb\x1b[31mc") == "a b?[31mc"


def test_a_string_is_shown_with_its_escapes():
    assert show('a"b\n') == r'the string "a\"b\n"'
