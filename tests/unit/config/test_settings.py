"""Reading files: what is not a configuration, and how files are laid over each other."""

from __future__ import annotations

import os

import pytest

from config.errors import ConfigError
from config.settings import MAX_BYTES, MAX_DROP_INS, drop_ins, read

SECTIONS = ("hypervisor.qemu", "runtime")


def fault(path) -> str:
    with pytest.raises(ConfigError) as caught:
        read(path, SECTIONS)
    return str(caught.value)


def test_a_syntax_error_names_file_and_line(write):
    path = write("[runtime]\nenable_debug = yes\n")

    message = fault(path)

    assert message.startswith(f"{path}: is not valid TOML")
    assert "line 2" in message


def test_a_key_given_twice_is_an_error(write):
    assert "is not valid TOML" in fault(write("[runtime]\na = 1\na = 2\n"))


@pytest.mark.parametrize("text", ["a = " + "[" * 5000 + "]" * 5000, "a = " + "9" * 5000, "a = 2000-13-45"])
def test_toml_beyond_what_can_be_read_is_an_error(write, text):
    assert "is not valid TOML" in fault(write(text))


def test_a_file_that_is_not_text_is_an_error(tmp_path):
    path = tmp_path / "c.toml"
    path.write_bytes(b"\xff\xfe")

    assert "is not UTF-8 text" in fault(path)


def test_a_huge_file_is_not_read(tmp_path):
    path = tmp_path / "c.toml"
    path.touch()
    os.truncate(path, MAX_BYTES + 1)

    assert f"has {MAX_BYTES + 1} bytes" in fault(path)


def test_a_fifo_is_refused_instead_of_waited_for(tmp_path):
    path = tmp_path / "c.toml"
    os.mkfifo(path)

    assert "is not a regular file" in fault(path)


def test_a_missing_file_is_an_error(tmp_path):
    assert "No such file" in fault(tmp_path / "c.toml")


def test_dotted_keys_and_inline_tables_mean_the_same_as_headers(write):
    dotted = read(write("hypervisor.qemu.path = '/a'\n"), SECTIONS)
    inline = read(write("hypervisor = { qemu = { path = '/a' } }\n"), SECTIONS)

    assert dotted["hypervisor.qemu", "path"].value == "/a"
    assert inline["hypervisor.qemu", "path"].value == "/a"
    assert dotted["hypervisor.qemu", "path"].origin.line == 1
    assert inline["hypervisor.qemu", "path"].origin.line == 1


def test_no_drop_in_directory_means_no_drop_ins(write):
    assert drop_ins(write("")) == ()


def test_a_drop_in_directory_that_is_a_file_is_an_error(write):
    path = write("")
    write("", "config.d")

    with pytest.raises(ConfigError, match=r"config.d: drop-in directory can't be read"):
        drop_ins(path)


def test_too_many_drop_ins_are_an_error(write):
    path = write("")
    for number in range(MAX_DROP_INS + 1):
        write("", f"config.d/{number}.toml")

    with pytest.raises(ConfigError, match="more than 256 drop-ins"):
        drop_ins(path)
