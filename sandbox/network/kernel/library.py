"""pyroute2, without all that importing it by its name brings along: databases, other families, a third of its time."""

from __future__ import annotations

import sys
from importlib.machinery import PathFinder
from types import ModuleType
from typing import Any


def is_loaded() -> bool:
    """Whether this process has it already."""
    return "pyroute2.iproute.linux" in sys.modules


def load() -> tuple[type[Any], type[Exception]]:
    """Its `IPRoute` and its `NetlinkError`."""
    if "pyroute2" not in sys.modules and (spec := PathFinder.find_spec("pyroute2")) is not None:
        # A package that has its modules, and does not run what its `__init__` does.
        package = ModuleType("pyroute2")
        package.__path__ = list(spec.submodule_search_locations or ())
        package.__spec__ = spec
        sys.modules["pyroute2"] = package
    try:
        from pyroute2.iproute.linux import IPRoute
        from pyroute2.netlink.exceptions import NetlinkError
    except ImportError:
        # Another version has them elsewhere.
        del sys.modules["pyroute2"]
        from pyroute2 import IPRoute, NetlinkError
    return IPRoute, NetlinkError
