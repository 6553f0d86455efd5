"""A virtiofsd without us, with the flags of a running pod's."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from bench.bare_qemu import command_of, launched, listening


@contextmanager
def share(name: str, scratch: Path, directory: Path) -> Iterator[Path]:
    """A virtiofsd with the pod's flags for another directory; its socket."""
    path = scratch / "fs"
    with listening(path) as listener:
        command = daemon_command(command_of(name, "virtiofsd"), listener.fileno(), directory)
        with launched(command, scratch / "virtiofsd.log", [listener.fileno()]):
            yield path


def daemon_command(command: Sequence[str], fd: int, directory: Path) -> list[str]:
    """The command line of a pod's virtiofsd (either flavour), for another socket and another directory."""
    words = [re.sub(r"^--fd=\d+$", f"--fd={fd}", word) for word in command]
    words = [re.sub(r"^((?:--)?(?:source|shared-dir)=).*$", rf"\g<1>{directory}", word) for word in words]
    if words == list(command):
        raise ValueError(f"no descriptor and no directory in the command line of virtiofsd: {' '.join(command)}")
    return words
