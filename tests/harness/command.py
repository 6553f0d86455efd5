"""Running a program to its end: captured output, a deadline, an error that says what failed."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path


class CommandError(Exception):
    """A program failed or did not end in time; one line that names it and its last words."""


@dataclass(frozen=True)
class Result:
    """What a program did: exit status, output and how long it took in seconds."""

    arguments: tuple[str, ...]
    returncode: int
    stdout: bytes
    stderr: bytes
    seconds: float

    @property
    def text(self) -> str:
        """Standard output as text, without the white space around it."""
        return self.stdout.decode(errors="replace").strip()

    @property
    def error_text(self) -> str:
        """Standard error as text, without the white space around it."""
        return self.stderr.decode(errors="replace").strip()

    def check(self) -> Result:
        """The result itself if the program succeeded, else `CommandError`."""
        if self.returncode:
            words = " ".join((self.error_text or self.text).split()) or "no output"
            raise CommandError(f"{command_line(self.arguments)}: exit status {self.returncode}: {words[-1500:]}")
        return self


def command_line(arguments: Sequence[str]) -> str:
    """The command as a person would write it, shortened to its beginning."""
    text = " ".join(arguments)
    return text if len(text) <= 200 else text[:197] + "..."


def run(
    *arguments: str | Path,
    timeout: float = 60.0,
    stdin: bytes = b"",
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> Result:
    """Run a program to its end; a non-zero exit is a result like any other.

    Raises `CommandError` if it can't be started or has not ended after `timeout` seconds (it is killed then).
    """
    words = tuple(str(argument) for argument in arguments)
    began = time.monotonic()
    try:
        done = subprocess.run(words, input=stdin, capture_output=True, timeout=timeout, env=env, cwd=cwd, check=False)
    except subprocess.TimeoutExpired as error:
        said = (error.stderr or error.stdout or b"").decode(errors="replace")
        tail = " ".join(said.split())[-500:] or "no output"
        raise CommandError(f"{command_line(words)}: did not end within {timeout:g} s: {tail}") from error
    except OSError as error:
        raise CommandError(f"{command_line(words)}: can't be started: {error.strerror}") from error
    return Result(words, done.returncode, done.stdout, done.stderr, time.monotonic() - began)
