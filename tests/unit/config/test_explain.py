"""`docs/configuration.md` says what the code says."""

from __future__ import annotations

from pathlib import Path

import pytest

import config
from config.explain import filled

PAGE = Path(config.__file__).parents[1] / "docs" / "configuration.md"


def test_the_page_has_every_key_as_it_is():
    text = PAGE.read_text()
    assert filled(text) == text, "run: python -m config.explain docs/configuration.md"


def test_a_page_without_marks_is_not_touched():
    with pytest.raises(ValueError, match="made by"):
        filled("# Title\n")
