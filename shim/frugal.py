"""Keeps out of the daemon what its libraries drag in and it never uses: 4.5 MB per pod, and 25 ms per start.

asyncio, uvloop, anyio and qemu.qmp all name the `ssl` module; the daemon speaks to UNIX sockets only, so it never loads
OpenSSL: a module with the names they mention stands in for it, for good. betterproto2 imports `grpclib.server`, with
all of HTTP/2, for the type in one annotation, and `importlib.metadata`, with the e-mail package, for its own version.
While it is imported, stand-ins take their place; afterwards both can be imported as ever.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from types import ModuleType


def leave_out_ssl() -> None:
    """Have a stand-in imported as `ssl` from now on; nothing happens where the real one is there already."""
    module = ModuleType("ssl", "Stands in for ssl in a process that never speaks TLS.")
    module.__getattr__ = _ssl_name  # type: ignore[method-assign]
    sys.modules.setdefault("ssl", module)


def _ssl_name(name: str) -> object:
    """Anything a library may take from `ssl` when it is imported: constants are 0, all else is an exception class."""
    if name.startswith("__"):
        raise AttributeError(name)
    return 0 if name.isupper() else type(name, (OSError,), {})


def import_messages() -> None:
    """Import betterproto2 and its parts for services; the usual way where a stand-in would not do."""
    if "betterproto2" in sys.modules:
        return
    version = installed_version("betterproto2")
    if version is not None:
        with _standing_in(_metadata(version), _grpclib_server()):
            import betterproto2
            import betterproto2.grpclib  # noqa: F401


def installed_version(name: str) -> str | None:
    """Version of an installed distribution, by the name of its directory; None if that does not tell."""
    for directory in sys.path:
        found = list(Path(directory).glob(f"{name}-*.dist-info"))
        if found:
            version = found[0].name.removeprefix(f"{name}-").removesuffix(".dist-info")
            return version if len(found) == 1 else None
    return None


def _metadata(version: str) -> ModuleType:
    module = ModuleType("importlib.metadata")
    module.version = lambda _: version  # type: ignore[attr-defined]
    return module


def _grpclib_server() -> ModuleType:
    module = ModuleType("grpclib.server")
    module.Stream = object  # type: ignore[attr-defined]
    return module


@contextmanager
def _standing_in(*modules: ModuleType) -> Iterator[None]:
    """Have `modules` found by their names while the block runs, unless the real ones are there already."""
    placed = [module for module in modules if module.__name__ not in sys.modules]
    parents = {module.__name__: import_module(module.__name__.rpartition(".")[0]) for module in placed}
    for module in placed:
        sys.modules[module.__name__] = module
        setattr(parents[module.__name__], module.__name__.rpartition(".")[2], module)
    try:
        yield
    finally:
        for module in placed:
            del sys.modules[module.__name__]
            delattr(parents[module.__name__], module.__name__.rpartition(".")[2])
