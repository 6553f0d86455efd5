"""The phases of starts, read from containerd's log, where the shim's daemon writes them.

A line is logrus text: `time="..." level=info msg="sandbox started" sandbox=<id> kind=cold total=4.812s
phases="config=0.002 network=0.100 vm=0.050 agent=4.300"`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

#: Messages that carry phases.
STARTS = ("sandbox started", "container created")

_FIELD = re.compile(r'([A-Za-z_][\w.-]*)=(?:"((?:[^"\\]|\\.)*)"|(\S*))')
_ESCAPE = re.compile(r"\\(.)")


@dataclass(frozen=True)
class Start:
    """One start: what was started, how long all of it took, and each phase, in seconds (phases may overlap)."""

    message: str
    id: str
    kind: str
    total: float
    phases: dict[str, float]

    def __str__(self) -> str:
        steps = "  ".join(f"{name} {seconds:.3f}" for name, seconds in self.phases.items())
        kind = f" ({self.kind})" if self.kind else ""
        return f"{self.message}{kind} in {self.total:.3f} s: {steps}"


def fields(line: str) -> dict[str, str]:
    """The `key=value` pairs of a logrus text line, values unquoted."""
    return {key: _ESCAPE.sub(r"\1", quoted) if quoted else bare for key, quoted, bare in _FIELD.findall(line)}


def parse(line: str) -> Start | None:
    """The start that `line` reports; None if it reports none."""
    if "phases=" not in line:
        return None
    found = fields(line)
    if found.get("msg") not in STARTS:
        return None
    steps = (step.partition("=") for step in found["phases"].split())
    return Start(
        message=found["msg"],
        id=found.get("container") or found.get("sandbox", ""),
        kind=found.get("kind", ""),
        total=seconds(found.get("total", "")),
        phases={name: seconds(value) for name, _, value in steps},
    )


def seconds(text: str) -> float:
    """A duration as it is logged (`4.812s`, `0.5`, `12ms`) in seconds; raises `ValueError`."""
    if text.endswith("ms"):
        return float(text[:-2]) / 1000
    return float(text.removesuffix("s"))


def starts(lines: Iterable[str]) -> list[Start]:
    """All starts that `lines` report, in order."""
    return [start for line in lines if (start := parse(line)) is not None]


class LogReader:
    """Reads what was added to a log since the last look."""

    def __init__(self, log: Path) -> None:
        self._log = log
        self._offset = log.stat().st_size if log.exists() else 0

    def starts(self) -> list[Start]:
        """The starts that were logged since the last call."""
        return starts(self.new_lines())

    def new_lines(self) -> list[str]:
        """Complete lines that were added since the last call."""
        with self._log.open("rb") as file:
            file.seek(self._offset)
            added = file.read()
        complete = added[: added.rfind(b"\n") + 1]
        self._offset += len(complete)
        return complete.decode(errors="replace").splitlines()
