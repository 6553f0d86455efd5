"""fstab's words become flags, data and propagation."""

from __future__ import annotations

import pytest

from guest.agent import kernel, mountopts
from guest.agent.errors import InvalidArgumentError


def test_words_are_sorted_into_flags_data_and_propagation():
    options = mountopts.parse(["nosuid,nodev", "ro", "mode=1777", "size=1m", "rslave"])

    assert options.flags == kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_RDONLY
    assert options.data == "mode=1777,size=1m"
    assert options.propagation == kernel.MS_SLAVE | kernel.MS_REC


def test_a_later_word_takes_an_earlier_one_back():
    assert mountopts.parse(["ro", "noexec", "rw", "exec"]).flags == 0


def test_options_of_more_than_a_page_are_refused():
    with pytest.raises(InvalidArgumentError):
        mountopts.parse(["x" * 5000])


def test_a_value_is_taken_out_of_the_options():
    assert mountopts.split_value(["a", "fsgid=1", "fsgid=2"], "fsgid") == ("2", ["a"])
    assert mountopts.split_value(["a"], "fsgid") == (None, ["a"])
