"""The process that runs the policy engine: `python3 worker.py DIRECTORY`, where regopy's package is in DIRECTORY.

It imports nothing of the agent. Standard input is a socket to the agent; each message on it is a length (4 bytes,
big-endian) and that much JSON, and each request gets one reply, in order:

    {"load": text, "rules": [...], "data": {...}}   -> {"ok": true}, or {"error": one line}
    {"data": {...}}                                 -> the same: `data` replaces what the rules see as `data`
    {"rule": name, "input": {...}}                  -> {"value": ...}, {} if the rule has no value, or {"error": ...}

It ends when the agent closes the socket. It is also what happens to a policy that makes the engine abort: the agent
sees the socket closed.
"""

from __future__ import annotations

import json
import resource
import socket
import sys
from typing import Any

PACKAGE = "agent_policy"
#: Processor seconds per request, after which the kernel ends the process.
CPU_SECONDS = 60
_HEADER = 4
_MESSAGE_LIMIT = 1 << 26


class PolicyError(Exception):
    """The engine takes the policy or the question for wrong; one line."""


class Policy:
    """A loaded policy. The engine compiles rules and data together, so other data means compiling again."""

    def __init__(self, text: str, rules: list[str], data: dict[str, Any]) -> None:
        self._text = text
        self._rules = rules
        self._check(data)
        self.compile(data)

    def compile(self, data: dict[str, Any]) -> None:
        """Make all rules ready for evaluation with `data`; raises `PolicyError`."""
        self._engine = self._interpreter(data)
        bundle = self._engine.build(None, [f"{PACKAGE}/{rule}" for rule in self._rules])
        if not bundle.ok():
            raise PolicyError("the rules can't be compiled")
        self._bundle = bundle

    def evaluate(self, rule: str, document: Any) -> dict[str, Any]:
        """`{"value": ...}` or, for a rule without one, an empty dictionary; raises `PolicyError`."""
        self._engine.set_input(document)
        return _answer(self._engine.query_bundle_entrypoint(self._bundle, f"{PACKAGE}/{rule}"))

    def _check(self, data: dict[str, Any]) -> None:
        """Evaluate the whole package once: what is wrong in a rule that is never asked for shows only then."""
        engine = self._interpreter(data)
        engine.set_input({})
        if "value" not in _answer(engine.query(f"data.{PACKAGE}")):
            raise PolicyError(f"there is no package {PACKAGE}")

    def _interpreter(self, data: dict[str, Any]) -> Any:
        from regopy import Interpreter  # type: ignore[import-untyped]
        from regopy.rego_shared import LogLevel  # type: ignore[import-untyped]

        engine = Interpreter()
        engine.log_level = LogLevel.NONE
        engine.add_module(PACKAGE, self._text)
        engine.add_data(data)
        return engine


def _answer(output: Any) -> dict[str, Any]:
    if not output.ok():
        raise PolicyError(f"the engine answers {output}")
    expressions = output.results[0].expressions if len(output) else []
    return {"value": expressions[0]} if expressions else {}


class Worker:
    """Answers requests; before the first load it knows no rule."""

    def __init__(self) -> None:
        self._policy: Policy | None = None

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """The reply to one request."""
        try:
            return self._answer(request)
        except Exception as error:  # noqa: BLE001 - whatever it is, the agent is told and denies
            return {"error": " ".join(f"{type(error).__name__}: {error}".split())[:1000]}

    def _answer(self, request: dict[str, Any]) -> dict[str, Any]:
        if "load" in request:
            self._policy = Policy(request["load"], request["rules"], request["data"])
            return {"ok": True}
        if self._policy is None:
            raise PolicyError("no policy is loaded")
        if "data" in request:
            self._policy.compile(request["data"])
            return {"ok": True}
        return self._policy.evaluate(request["rule"], request["input"])


def _receive(sock: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        piece = sock.recv(size - len(data))
        if not piece:
            raise EOFError
        data += piece
    return bytes(data)


def serve(sock: socket.socket, worker: Worker) -> None:
    """Answer requests until the other side closes."""
    try:
        while True:
            size = int.from_bytes(_receive(sock, _HEADER), "big")
            if size > _MESSAGE_LIMIT:
                return
            _allow_time()
            reply = json.dumps(worker.answer(json.loads(_receive(sock, size)))).encode()
            sock.sendall(len(reply).to_bytes(_HEADER, "big") + reply)
    except (EOFError, ConnectionError):
        return


def _allow_time() -> None:
    used = resource.getrusage(resource.RUSAGE_SELF)
    limit = int(used.ru_utime + used.ru_stime) + CPU_SECONDS
    resource.setrlimit(resource.RLIMIT_CPU, (limit, resource.RLIM_INFINITY))


def _die_first() -> None:
    """Let the kernel take this process before any other when memory runs out: the agent makes a new one."""
    with open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
        file.write("1000")


def main() -> None:
    """Serve on standard input."""
    sys.path.append(sys.argv[1])
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _die_first()
    serve(socket.socket(fileno=0), Worker())


if __name__ == "__main__":
    main()
