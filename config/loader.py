"""From files to `Config`: every setting is classified, typed and checked, and the first fault ends it with
one line.

The steps are `find` (search), `read` (settings of source and drop-ins) and `build` (pure: settings to
dataclasses). Pod annotations are laid over the result (`config.annotations`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from config import hypervisor
from config.agent import AgentConfig
from config.errors import ConfigError
from config.factory import FactoryConfig
from config.foreign import FOREIGN
from config.hypervisor import HypervisorConfig
from config.keys import Key, Stance, Verdict, keys_of
from config.memory import Memory
from config.rules import RuleError
from config.runtime import RuntimeConfig
from config.search import find
from config.settings import Origin, Setting, Settings, drop_ins, read, read_tables, suggestion

#: What stands for the file's name where there is none.
OPTIONS = Path("options of the runtime in containerd's configuration")

#: The sections with a dataclass.
TYPED: Mapping[str, type] = {
    "hypervisor.qemu": HypervisorConfig,
    "agent.kata": AgentConfig,
    "runtime": RuntimeConfig,
    "factory": FactoryConfig,
}


@dataclass(frozen=True, kw_only=True)
class Config:
    """A whole configuration, every value checked."""

    #: The main file, symlinks resolved.
    source: Path
    hypervisor: HypervisorConfig = field(default_factory=HypervisorConfig)
    agent: AgentConfig = field(default_factory=AgentConfig)
    runtime: RuntimeConfig = field(default_factory=RuntimeConfig)
    factory: FactoryConfig = field(default_factory=FactoryConfig)
    #: The drop-ins laid over it, in order.
    drop_ins: tuple[Path, ...] = ()
    #: One line for each setting that has no effect; to be logged once by whoever loads.
    ignored: tuple[str, ...] = ()
    #: Where each key was set, by section and key; what is not here has its default.
    origins: Mapping[tuple[str, str], Origin] = field(default_factory=dict, repr=False, compare=False)


_memory: Memory[Config] = Memory()


def load(path: Path | None = None) -> Config:
    """The configuration in `path`, or in the first file of Kata's search order.

    Raises `ConfigError`: no such file, not TOML, an unknown section or key, a value that is not allowed, or
    one that asks for something this runtime must not pass over. Does not ask whether files named in it
    exist (`check_paths`).
    """
    source = find(path)
    overrides = drop_ins(source)
    return _memory.recall((source, *overrides), lambda: _read_all(source, overrides))


def _read_all(source: Path, overrides: tuple[Path, ...]) -> Config:
    settings: dict[tuple[str, str], Setting] = {}
    for file in (source, *overrides):
        settings |= read(file, FOREIGN)
    return build(settings, source, overrides)


def loads(text: str) -> Config | None:
    """The configuration that the runtime's options hold themselves (`config_body`), or None if they hold none.

    containerd sends the whole table of options. Keys outside of a section are other things' (`TypeUrl`, or what was
    meant for runc), so they are passed over; a section is read as in a file, and there are no drop-ins. Raises
    `ConfigError` as `load` does.
    """
    settings = read_tables(text, OPTIONS, FOREIGN)
    return build(settings, OPTIONS) if settings else None


def build(settings: Settings, source: Path, overrides: tuple[Path, ...] = ()) -> Config:
    """Typed configuration from `settings`; raises `ConfigError`."""
    typed: dict[str, dict[str, Any]] = {section: {} for section in TYPED}
    notes: list[str] = []
    for (section, name), setting in settings.items():
        key = keys_of(TYPED[section]).get(name) if section in TYPED else None
        if key is not None:
            typed[section][name] = _parse(section, key, setting, notes)
        elif name in FOREIGN[section]:
            _pass_over(section, name, setting, notes)
        else:
            raise _unknown(section, name, setting)
    config = Config(
        source=source,
        hypervisor=HypervisorConfig(**hypervisor.complete(typed["hypervisor.qemu"])),
        agent=AgentConfig(**typed["agent.kata"]),
        runtime=RuntimeConfig(**typed["runtime"]),
        factory=FactoryConfig(**typed["factory"]),
        drop_ins=overrides,
        ignored=tuple(notes),
        origins={place: setting.origin for place, setting in settings.items()},
    )
    check_sizes(config)
    return config


def _parse(section: str, key: Key, setting: Setting, notes: list[str]) -> Any:
    """The typed value of a key; a pending key that is not at its default is noted or refused."""
    try:
        value = key.rule.parse(setting.value)
    except RuleError as broken:
        raise ConfigError(f"[{section}] {key.name} {broken}", where=setting.origin) from broken
    if key.pending is not None and value != key.default:
        _judge(section, key.name, key.pending, setting, notes)
    return value


def _pass_over(section: str, name: str, setting: Setting, notes: list[str]) -> None:
    foreign = FOREIGN[section][name]
    if not foreign.is_default(setting.value):
        _judge(section, name, foreign.stance, setting, notes)


def _judge(section: str, name: str, stance: Stance, setting: Setting, notes: list[str]) -> None:
    """Act on a value without effect. The value itself is not shown: some of Kata's keys hold passwords."""
    if stance.verdict is Verdict.REFUSED:
        raise ConfigError(f"[{section}] {name} is not supported: {stance.reason}", where=setting.origin)
    if stance.verdict is Verdict.IGNORED:
        notes.append(f"{setting.origin}: [{section}] {name} is ignored: {stance.reason}")


def _unknown(section: str, name: str, setting: Setting) -> ConfigError:
    if isinstance(setting.value, dict):
        return ConfigError(f"unknown section [{section}.{name}]{_other_section(section, name)}", where=setting.origin)
    if hint := suggestion(name, _names(section)):
        return ConfigError(f'[{section}] unknown key "{name}"{hint}', where=setting.origin)
    homes = [f"[{other}]" for other in FOREIGN if name in _names(other)]
    hint = f"; it belongs in {' or '.join(homes)}" if homes else ""
    return ConfigError(f'[{section}] unknown key "{name}"{hint}', where=setting.origin)


def _other_section(section: str, name: str) -> str:
    """runtime-rs has [hypervisor.qemu.factory] where the Go runtime has [factory]."""
    return f"; did you mean [{name}]?" if name in TYPED else suggestion(f"{section}.{name}", FOREIGN, "[{}]")


def _names(section: str) -> set[str]:
    typed = set(keys_of(TYPED[section])) if section in TYPED else set()
    return typed | set(FOREIGN[section])


def check_sizes(config: Config) -> None:
    """Raise `ConfigError` for a maximum below what a VM starts with: a slip, whichever of the two is meant."""
    vm = config.hypervisor
    pairs = (
        ("default_maxvcpus", vm.default_maxvcpus, "default_vcpus", vm.default_vcpus),
        ("default_maxmemory", vm.default_maxmemory, "default_memory", vm.default_memory),
    )
    for most_name, most, first_name, first in pairs:
        if 0 < most < first:
            where = config.origins.get(("hypervisor.qemu", most_name), config.source)
            raise ConfigError(f"[hypervisor.qemu] {most_name} {most} is below {first_name} {first:g}", where=where)
