"""The benchmark of file reads, as far as it goes without a guest."""

from __future__ import annotations

import io

import pytest

from bench import file_reader
from bench.bare_virtiofsd import daemon_command
from bench.file_guests import Guest

MIB = 1 << 20


@pytest.fixture
def path(tmp_path):
    file = tmp_path / "file"
    file.write_bytes(bytes(2 * MIB))
    return str(file)


@pytest.mark.parametrize("numbers", [("sequential", 2), ("random", 2, 50), ("again", 2)])
def test_reading_takes_time(path, numbers):
    kind, *rest = numbers

    assert file_reader.timed(kind, path, *rest) > 0


def test_a_file_that_is_too_short_is_an_error(path):
    with pytest.raises(EOFError, match="1048576 bytes at 2097152"):
        file_reader.timed("sequential", path, 3)


def test_places_are_blocks_of_the_file_all_over_it():
    places = file_reader.places(1000, 512)

    assert all(place % 4096 == 0 and 0 <= place < 512 * 4096 for place in places)
    assert len(set(places)) > 400
    assert places == file_reader.places(1000, 512)


def test_the_reader_answers_each_line_and_tells_of_errors(path, monkeypatch, capsys):
    monkeypatch.setattr("sys.stdin", io.StringIO(f"sequential {path} 1\nsequential {path}.none 1\n"))

    file_reader.main()

    number, error = capsys.readouterr().out.splitlines()
    assert float(number) > 0
    assert "No such file" in error


def guest(answer: str, asked: list[str]) -> Guest:
    async def ask(line: str) -> str:
        asked.append(line)
        return answer

    return Guest(ask)


@pytest.mark.anyio
async def test_what_a_guest_is_asked_and_answers():
    asked = []

    assert await guest("1.25e-1\n", asked).seconds("random", "/data/file", 256, 3000) == 0.125
    assert asked == ["random /data/file 256 3000\n"]


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("answer", "words"), [("", "it is gone"), ("/data/file: no\n", "/data/file: no"), ("nan\n", "nan")]
)
async def test_anything_but_a_number_is_an_error(answer, words):
    with pytest.raises(RuntimeError, match=words):
        await guest(answer, []).seconds("sequential", "/data/file", 1)


@pytest.mark.parametrize(
    ("command", "other"),
    [
        (
            ["fsd", "--fd=17", "-o", "source=/run/a", "-o", "cache=auto"],
            ["fsd", "--fd=5", "-o", "source=/b", "-o", "cache=auto"],
        ),
        (
            ["fsd", "--fd=17", "--shared-dir=/run/a", "--cache=auto"],
            ["fsd", "--fd=5", "--shared-dir=/b", "--cache=auto"],
        ),
    ],
)
def test_virtiofsd_keeps_its_flags_but_for_socket_and_directory(command, other):
    assert daemon_command(command, 5, "/b") == other


def test_a_command_line_with_neither_is_refused():
    with pytest.raises(ValueError, match="no descriptor and no directory"):
        daemon_command(["fsd", "--socket-path=/x"], 5, "/b")
