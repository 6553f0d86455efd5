"""The command line of `kata-ctl`: which verb, with what; each verb is a module, loaded when it is asked for.

argparse, not typer: its libraries take half a second to load where this takes a twentieth.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from ctl.errors import CtlError
from shim.paths import add_import_roots
from shim.version import VERSION

#: A verb: what it prints, and its exit status.
Verb = Callable[[argparse.Namespace], tuple[str, int]]


def main(arguments: Sequence[str]) -> NoReturn:
    """Do what the arguments say, and end the process with the verb's status."""
    add_import_roots()
    sys.exit(run(arguments))


def run(arguments: Sequence[str]) -> int:
    """The exit status: 1 after one line about what is wrong."""
    from shim.management.client import ManagementError

    options = parser().parse_args(arguments)
    try:
        verb: Verb = options.verb
        output, status = verb(options)
        if output:
            print(output)
        sys.stdout.flush()
    except (CtlError, ManagementError) as error:
        print(f"kata-ctl: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        # The reader, such as `head`, has seen enough: what is left must not be written at the end either.
        sys.stdout = None
        return 1
    except KeyboardInterrupt:
        return 130
    return status


def parser() -> argparse.ArgumentParser:
    """All verbs and their options."""
    top = argparse.ArgumentParser(prog="kata-ctl", description="Pods of this node, seen from outside.")
    top.add_argument("--version", action="version", version=f"kata-ctl {VERSION}")
    verbs = top.add_subparsers(title="verbs", required=True, metavar="VERB")

    one = _verb(verbs, "list", _list, "the pods of this node")
    one.add_argument("--json", action="store_true", help="as JSON")
    _pod(_verb(verbs, "inspect", _inspect, "all that is known of a pod, as JSON"))
    _pod(_verb(verbs, "phases", _phases, "where the time of a pod's start went"))
    _pod(_verb(verbs, "metrics", _metrics, "a pod's metrics, or all pods', for Prometheus"), nargs="?")
    one = _verb(verbs, "check", _check, "what this host has of what pods need")
    _file(one)
    one = _verb(verbs, "config", _config, "the configuration as the runtime takes it")
    one.add_argument("action", choices=("show", "check"))
    _file(one)
    _volume_verbs(verbs)
    _rules_verbs(verbs)
    one = _verb(verbs, "policy", _policy, "set the policy of a pod's agent")
    one.add_argument("action", choices=("set",))
    _pod(one)
    one.add_argument("policy", type=Path, metavar="FILE")
    one = _verb(verbs, "cache", _cache, "the cache of VMs that wait for pods (vm_cache_number)")
    one.add_argument("action", choices=("start", "status", "drain", "stop"))
    one.add_argument("--foreground", action="store_true", help="with start: be the server, and log to standard error")
    _file(one)
    one = _verb(verbs, "factory", _factory, "the templates that VMs are cloned from (enable_template)")
    one.add_argument("action", choices=("init", "status", "destroy"))
    one.add_argument("key", nargs="?", default="", metavar="KEY", help="with destroy: only what begins so")
    _file(one)
    one = _verb(verbs, "monitor", _monitor, "serve all pods' metrics to Prometheus")
    one.add_argument("--listen", default="127.0.0.1:8090", metavar="HOST:PORT", help="default: %(default)s")
    return top


def _verb(
    verbs: argparse._SubParsersAction[argparse.ArgumentParser], name: str, verb: Verb, text: str
) -> argparse.ArgumentParser:
    one = verbs.add_parser(name, help=text, description=text)
    one.set_defaults(verb=verb)
    return one


def _pod(one: argparse.ArgumentParser, nargs: str | None = None) -> None:
    one.add_argument("sandbox", nargs=nargs, metavar="ID", help="a sandbox' id, or how it begins")


def _file(one: argparse.ArgumentParser) -> None:
    one.add_argument("--file", type=Path, help="this configuration rather than the host's")


def _volume_verbs(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    one = _verb(verbs, "direct-volume", _volume, "volumes that a CSI driver leaves to the runtime")
    one.add_argument("action", choices=("add", "remove", "stats", "resize"))
    one.add_argument("--volume-path", required=True, metavar="PATH", help="where the kubelet has the volume")
    one.add_argument("--mount-info", metavar="JSON", help="what add is to write")
    one.add_argument("--size", type=int, metavar="BYTES", help="what resize is to reach")


def _rules_verbs(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    one = _verb(verbs, "iptables", _iptables, "the packet filter of a pod's guest")
    one.add_argument("action", choices=("get", "set"))
    _pod(one)
    one.add_argument("rules", nargs="?", type=Path, metavar="FILE", help="what set is to load, as iptables-save prints")
    one.add_argument("--v6", action="store_true", help="ip6tables")


def _list(options: argparse.Namespace) -> tuple[str, int]:
    from ctl import listing

    return listing.as_json() if options.json else listing.as_text(), 0


def _inspect(options: argparse.Namespace) -> tuple[str, int]:
    from ctl import listing, pods

    return listing.inspect(pods.find(options.sandbox)), 0


def _phases(options: argparse.Namespace) -> tuple[str, int]:
    from ctl import phases, pods

    return phases.chart(pods.find(options.sandbox)), 0


def _metrics(options: argparse.Namespace) -> tuple[str, int]:
    if options.sandbox:
        return _ask(options.sandbox, "GET", "/metrics").rstrip("\n"), 0
    from ctl import gathering

    return gathering.node_metrics().rstrip("\n"), 0


def _check(options: argparse.Namespace) -> tuple[str, int]:
    from ctl import checks

    found = list(checks.findings(options.file and options.file.absolute()))
    return "\n".join(map(str, found)), int(any(one.level is checks.Level.FAILS for one in found))


def _config(options: argparse.Namespace) -> tuple[str, int]:
    from ctl import configuration

    return {"show": configuration.show, "check": configuration.check}[options.action](options.file), 0


def _volume(options: argparse.Namespace) -> tuple[str, int]:
    from ctl import volumes

    path = options.volume_path
    if options.action == "stats":
        return volumes.stats(path), 0
    if options.action == "remove":
        volumes.remove(path)
    elif options.action == "add":
        if options.mount_info is None:
            raise CtlError("direct-volume add needs --mount-info")
        volumes.add(path, options.mount_info)
    else:
        if options.size is None or options.size <= 0:
            raise CtlError("direct-volume resize needs --size, a number of bytes")
        volumes.resize(path, options.size)
    return "", 0


def _iptables(options: argparse.Namespace) -> tuple[str, int]:
    target = "/ip6tables" if options.v6 else "/iptables"
    if options.action == "get":
        return _ask(options.sandbox, "GET", target).rstrip("\n"), 0
    if options.rules is None:
        raise CtlError("iptables set needs a file of rules")
    return _ask(options.sandbox, "PUT", target, _read(options.rules)).rstrip("\n"), 0


def _policy(options: argparse.Namespace) -> tuple[str, int]:
    return _ask(options.sandbox, "PUT", "/policy", _read(options.policy)), 0


def _cache(options: argparse.Namespace) -> tuple[str, int]:
    from ctl import cache

    cache.become(options.action, options.file and options.file.absolute(), options.foreground)


def _factory(options: argparse.Namespace) -> tuple[str, int]:
    from ctl import factory

    if options.action == "destroy":
        return factory.destroy(options.file, options.key), 0
    if options.key:
        raise CtlError(f"factory {options.action} takes no key")
    if options.action == "init":
        factory.become_builder(options.file)
    return factory.status(options.file), 0


def _monitor(options: argparse.Namespace) -> tuple[str, int]:
    import asyncio

    from ctl import monitor

    with monitor.listen(options.listen) as listener:
        address = listener.getsockname()
        print(f"metrics on http://{address[0]}:{address[1]}/metrics", flush=True)
        asyncio.run(monitor.run(listener))
    return "", 0


def _ask(sandbox: str, method: str, target: str, body: bytes = b"") -> str:
    import asyncio

    from ctl import pods
    from shim.management.client import ask

    return asyncio.run(ask(pods.find(sandbox).socket, method, target, body=body)).decode(errors="replace")


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise CtlError(f"{path}: {error.strerror}") from error


if __name__ == "__main__":
    main(sys.argv[1:])
