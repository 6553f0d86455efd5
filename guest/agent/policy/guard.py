"""Deciding about requests: the policy in force, its memory, and what was decided before."""

from __future__ import annotations

import asyncio
import json
import re
from collections import OrderedDict
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from guest.agent.errors import InvalidArgumentError, PermissionDeniedError, UnimplementedError
from guest.agent.log import log
from guest.agent.policy import engine, patch, request
from guest.agent.reaper import Reaper

if TYPE_CHECKING:
    from protos.lean.message import Message

#: The rule that turns denials into log lines.
LENIENT_RULE = "AllowRequestsFailingPolicy"
#: What the rules see as `data` before any of them has changed it.
FIRST_DATA: dict[str, Any] = {"pstate": {}}
MAX_REMEMBERED = 256
_REMEMBERED_SIZE = 2048
#: Builtins whose value differs from call to call: with one of them in the text no decision is remembered.
_UNSTEADY = re.compile(r"\b(http|net|opa|rand|time|uuid)\.")


class Policy:
    """The guest's policy. Until `set` has succeeded there is none, `active` is false and everything is allowed."""

    def __init__(self, requests: Iterable[type[Message]], reaper: Reaper) -> None:
        """`requests` are the types of all messages that may have to be checked."""
        self._rules = sorted({*map(request.rule_of, requests), LENIENT_RULE})
        self._reaper = reaper
        self._text = ""
        self._engine: engine.Engine | None = None
        self._data = FIRST_DATA
        self._lenient = False
        self._steady = False
        self._allowed: OrderedDict[tuple[str, str], None] = OrderedDict()
        self._turn = asyncio.Lock()

    @property
    def active(self) -> bool:
        """Whether requests are to be checked."""
        return self._engine is not None

    async def set(self, text: str) -> None:
        """Put the policy `text` in force; `InvalidArgumentError` leaves the one before it as it was."""
        try:
            fresh = await self._start(text, FIRST_DATA)
            try:
                lenient = await fresh.evaluate(LENIENT_RULE, {}) is True
            except BaseException:
                fresh.close()
                raise
        except engine.NoEngineError as error:
            raise UnimplementedError(str(error)) from error
        except engine.EngineError as error:
            raise InvalidArgumentError(f"the policy is refused: {error}") from error
        async with self._turn:
            self.close()
            self._engine, self._text, self._data, self._lenient = fresh, text, FIRST_DATA, lenient
            self._steady = _UNSTEADY.search(text) is None
            self._allowed.clear()
        log.info("a policy is in force%s", ", which only warns" if lenient else "")

    async def require(self, message: Message) -> None:
        """Raise `PermissionDeniedError` unless the policy allows `message`."""
        rule = request.rule_of(type(message))
        document = request.input_of(message)
        key = self._key(rule, document)
        if key in self._allowed:
            self._allowed.move_to_end(key)
            return
        async with self._turn:
            reason = await self._denial(rule, document, key)
        if reason is None:
            return
        if not self._lenient:
            raise PermissionDeniedError(f"{rule} is blocked by policy{reason}")
        log.warning("policy: %s would be blocked%s", rule, reason)

    def close(self) -> None:
        """End the engine; idempotent."""
        if self._engine is not None:
            self._engine.close()
            self._engine = None

    async def _denial(self, rule: str, document: dict[str, Any], key: tuple[str, str]) -> str | None:
        """Why the policy denies, as the end of a sentence; None if it allows."""
        try:
            in_force = await self._ready()
            value = await in_force.evaluate(rule, document)
            if isinstance(value, dict) and value.get("allowed") is True:
                if operations := value.get("ops"):
                    await self._change(in_force, operations)
                    return None
                value = True
        except (engine.EngineError, patch.PatchError) as error:
            return f": {error}"
        if value is not True:
            return ""
        if self._steady and len(key[1]) <= _REMEMBERED_SIZE:
            self._remember(key)
        return None

    async def _ready(self) -> engine.Engine:
        """The engine; a new one with the same policy and memory if the last one has failed."""
        if self._engine is None:
            raise engine.EngineError("there is no policy any more")
        if self._engine.failed:
            fresh = await self._start(self._text, self._data)
            self._engine.close()
            self._engine = fresh
        return self._engine

    async def _start(self, text: str, data: dict[str, Any]) -> engine.Engine:
        return await engine.Engine.start(text, self._rules, data, self._reaper)

    async def _change(self, in_force: engine.Engine, operations: Any) -> None:
        data = patch.applied(self._data, operations)
        if not isinstance(data, dict):
            raise patch.PatchError("the policy's data must stay an object")
        self._allowed.clear()
        await in_force.set_data(data)
        self._data = data

    def _key(self, rule: str, document: dict[str, Any]) -> tuple[str, str]:
        return rule, json.dumps(document)

    def _remember(self, key: tuple[str, str]) -> None:
        self._allowed[key] = None
        if len(self._allowed) > MAX_REMEMBERED:
            self._allowed.popitem(last=False)
