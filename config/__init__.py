"""The typed configuration: Kata's `configuration.toml` in the layout of its Go runtime. Data only.

    config.load(path=None) -> config.Config       raises config.ConfigError, always one line
    config.loads(text) -> config.Config | None    the same for what the runtime's options hold themselves
    config.check_paths(loaded)                    are the files it names there?
    config.annotations.apply(loaded, annotations) -> config.Config    what a pod sets over it

Glossary:

- *source*: the main file, found by Kata's search order, with its symlinks resolved.
- *drop-in*: `config.d/*.toml` next to the source; each overrides single keys, in lexical order.
- *section*: a TOML table such as `[hypervisor.qemu]`; each has a frozen dataclass.
- *key*: a field of such a dataclass; it carries its rule and its documentation (`config.keys`).
- *stance*: what becomes of a key that Kata has and this runtime does not act on: harmless, ignored, refused.

The names below are imported at first use: who imports a submodule pays for that submodule only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from config.agent import AgentConfig
    from config.errors import ConfigError, NotAllowedError
    from config.factory import FactoryConfig
    from config.hypervisor import HypervisorConfig
    from config.loader import Config, load, loads
    from config.paths import check_paths
    from config.runtime import RuntimeConfig

__all__ = [
    "AgentConfig",
    "Config",
    "ConfigError",
    "FactoryConfig",
    "HypervisorConfig",
    "NotAllowedError",
    "RuntimeConfig",
    "check_paths",
    "load",
    "loads",
]

if not TYPE_CHECKING:
    _HOMES = {
        "AgentConfig": "agent",
        "Config": "loader",
        "ConfigError": "errors",
        "FactoryConfig": "factory",
        "HypervisorConfig": "hypervisor",
        "NotAllowedError": "errors",
        "RuntimeConfig": "runtime",
        "check_paths": "paths",
        "load": "loader",
        "loads": "loader",
    }

    def __getattr__(name: str) -> object:
        """Import a public name from its module at first use (PEP 562)."""
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module

        value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
        globals()[name] = value
        return value
