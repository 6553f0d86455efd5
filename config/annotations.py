"""Pod annotations `io.katacontainers.*`: the last layer of the configuration.

They come from whoever may make pods. So those about the VM count only where `enable_annotations` has a pattern that
matches the whole rest of the name, those that name a program or a device of the host only where a `valid_*` list has
the path, and all under the rules of the file's keys. Those of the runtime and of the agent are always read, as in Kata.
One that is refused, unknown or malformed is an error with its name: a pod never runs with less than it asked for.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from config.annotation_names import CONFIG_PATH, HYPERVISOR, INTERNAL, KEYS, LONE, PATH_LISTS, PREFIX
from config.errors import ConfigError, NotAllowedError
from config.foreign import FOREIGN, ForeignKey
from config.keys import Stance, Verdict, keys_of
from config.loader import TYPED, Config, check_sizes
from config.path_lists import Resolve, allowed_path
from config.rules import AbsolutePath, Flag, Integer, ListOf, Number, Rule, RuleError
from config.search import SEARCH_ORDER, find
from config.settings import Origin, suggestion

#: More annotations of ours than this are a mistake.
MAX_ANNOTATIONS = 256
#: Longest name that a message shows.
_SHOWN = 120
#: Go's `strconv.ParseBool`, which Kata uses.
_FLAGS = {
    **dict.fromkeys(("1", "t", "T", "TRUE", "true", "True"), True),
    **dict.fromkeys(("0", "f", "F", "FALSE", "false", "False"), False),
}


def apply(config: Config, annotations: Mapping[str, str], resolve: Resolve = os.path.realpath) -> Config:
    """`config` with what the pod's annotations set.

    Raises `NotAllowedError` for one that the configuration does not allow, or this runtime does not support,
    `ConfigError` for one that nobody knows or whose value makes no sense.
    """
    ours = sorted(item for item in annotations.items() if item[0].startswith(PREFIX))
    if len(ours) > MAX_ANNOTATIONS:
        raise ConfigError(f"{len(ours)} annotations {PREFIX}*: at most {MAX_ANNOTATIONS} are allowed")
    layer = _Layer(config, resolve)
    for name, text in ours:
        if name != CONFIG_PATH and not name.startswith(INTERNAL):
            layer.take(name, text)
    return layer.result()


def chosen_file(annotations: Mapping[str, str], configured: Path | None) -> Path | None:
    """The configuration file that the pod chooses by `io.katacontainers.config_path`, else `configured`.

    Kata takes any path from a pod. Who may write a file anywhere on the host, for a volume or an image, would run any
    program of it as root. So it must be a `configuration*.toml` beside the file that would be read without the
    annotation, or in a directory of Kata's search order: files that the administrator has put there for pods to choose.
    """
    text = annotations.get(CONFIG_PATH, "")
    if not text:
        return configured
    where = Origin(f"annotation {CONFIG_PATH}")
    try:
        path = AbsolutePath().parse(text)
    except RuleError as broken:
        raise ConfigError(str(broken), where=where) from broken
    folders = {os.path.realpath(each.parent) for each in (find(configured), *SEARCH_ORDER)}
    real = Path(os.path.realpath(path))
    if str(real.parent) not in folders or not re.fullmatch(r"configuration[\w.-]*\.toml", real.name, re.ASCII):
        raise NotAllowedError(
            f"{path} is not allowed: it must be a configuration*.toml in {' or '.join(sorted(folders))}", where=where
        )
    return real


@dataclass
class _Layer:
    """What annotations have set so far, over `base`."""

    base: Config
    resolve: Resolve
    values: dict[str, dict[str, Any]] = field(default_factory=lambda: {section: {} for section in TYPED})
    origins: dict[tuple[str, str], Origin] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def take(self, name: str, text: str) -> None:
        """Set what the annotation `name` stands for."""
        where = Origin(f"annotation {name[:_SHOWN]}")
        if name not in KEYS and name not in LONE:
            raise ConfigError(f"there is no such annotation{suggestion(name, [*KEYS, *LONE])}", where=where)
        self._check_enabled(name, where)
        if name in LONE:
            self._pass_over(LONE[name], text, where)
            return
        section, key = KEYS[name]
        if key in FOREIGN[section]:
            self._pass_over(FOREIGN[section][key], text, where)
        elif text or not isinstance(getattr(self._section(section), key), str | Path | tuple | None):
            # Kata reads an empty text as "not set".
            self._set(section, key, text, where)

    def _section(self, section: str) -> Any:
        base = self.base
        return {"hypervisor.qemu": base.hypervisor, "agent.kata": base.agent, "runtime": base.runtime}[section]

    def _check_enabled(self, name: str, where: Origin) -> None:
        if not name.startswith(HYPERVISOR):
            return
        rest = name.removeprefix(HYPERVISOR)
        if not any(re.fullmatch(pattern, rest) for pattern in self.base.hypervisor.enable_annotations):
            raise NotAllowedError(
                f'is not enabled: to allow it, add "{rest}" to enable_annotations in [hypervisor.qemu] of '
                f"{self.base.source}",
                where=where,
            )

    def _pass_over(self, foreign: ForeignKey, text: str, where: Origin) -> None:
        if not any(_says(text, default) for default in foreign.defaults):
            self._judge(foreign.stance, where)

    def _judge(self, stance: Stance, where: Origin) -> None:
        if stance.verdict is Verdict.REFUSED:
            raise NotAllowedError(f"is not supported: {stance.reason}", where=where)
        if stance.verdict is Verdict.IGNORED:
            self.notes.append(f"{where} is ignored: {stance.reason}")

    def _set(self, section: str, name: str, text: str, where: Origin) -> None:
        key, current = keys_of(TYPED[section])[name], getattr(self._section(section), name)
        try:
            value = key.rule.parse(_plain(key.rule, name, text, current))
        except RuleError as broken:
            raise ConfigError(str(broken), where=where) from broken
        value = self._allowed(str(where).removeprefix("annotation "), value, where)
        if key.pending is not None and value != key.default:
            self._judge(key.pending, where)
        self.values[section][name] = value
        self.origins[section, name] = where

    def _allowed(self, name: str, value: Any, where: Origin) -> Any:
        """`value`, which for a path under a list is what it leads to: the link may change later."""
        if name not in PATH_LISTS:
            return value
        allowed = allowed_path(value, getattr(self.base.hypervisor, PATH_LISTS[name]), self.resolve)
        if allowed is None:
            raise NotAllowedError(
                f"{value} is not allowed: to allow it, add a pattern for it to {PATH_LISTS[name]} in "
                f"[hypervisor.qemu] of {self.base.source}",
                where=where,
            )
        return allowed

    def result(self) -> Config:
        """The configuration with all of it."""
        base, vm = self.base, self.values["hypervisor.qemu"]
        if "image" in vm or "initrd" in vm:
            # A guest of the pod's choice must not be mixed with half of the configuration's.
            kept = {} if ("hypervisor.qemu", "rootfs_type") in base.origins else {"rootfs_type": "ext4"}
            vm = {"image": None, "initrd": None} | kept | vm
        config = replace(
            base,
            hypervisor=replace(base.hypervisor, **vm),
            agent=replace(base.agent, **self.values["agent.kata"]),
            runtime=replace(base.runtime, **self.values["runtime"]),
            ignored=(*base.ignored, *self.notes),
            origins={**base.origins, **self.origins},
        )
        check_sizes(config)
        return config


def _plain(rule: Rule[Any], name: str, text: str, current: Any) -> object:
    """What a file would hold in place of the annotation's text; two keys are added to, as in Kata."""
    if name == "kernel_params":
        return f"{current} {text}".strip()
    if isinstance(rule, Flag):
        return _FLAGS.get(text, text)
    if isinstance(rule, Integer):
        return int(text) if re.fullmatch(r"-?[0-9]{1,20}", text) else text
    if isinstance(rule, Number):
        return float(text) if re.fullmatch(r"-?[0-9]{1,20}(\.[0-9]{1,20})?", text) else text
    if not isinstance(rule, ListOf):
        return text
    if name == "kernel_modules":
        return [part.strip() for part in text.split(";") if part.strip()]
    return [*current, *_json_list(text)]


def _json_list(text: str) -> list[object]:
    import json

    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as broken:
        raise RuleError("must be a JSON list of strings") from broken
    if not isinstance(value, list):
        raise RuleError("must be a JSON list of strings")
    return value


def _says(text: str, default: object) -> bool:
    """Whether an annotation's text means `default`, which is a value of a file."""
    if isinstance(default, bool):
        return _FLAGS.get(text) is default
    return text == ("" if default == () else str(default))
