"""OCI seccomp profiles: from `grpc.LinuxSeccomp` to the runtime-spec JSON. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from protos.lean.gen.grpc import LinuxSeccomp, LinuxSyscall

Json = dict[str, Any]


def seccomp_json(seccomp: LinuxSeccomp) -> Json:
    """The runtime-spec `linux.seccomp` object."""
    result: Json = {
        "defaultAction": seccomp.default_action,
        "syscalls": [_syscall(rule) for rule in seccomp.syscalls if rule.names],
    }
    if seccomp.architectures:
        result["architectures"] = list(seccomp.architectures)
    if seccomp.flags:
        result["flags"] = list(seccomp.flags)
    return result


def _syscall(rule: LinuxSyscall) -> Json:
    result: Json = {"names": list(rule.names), "action": rule.action}
    if rule.errnoret is not None:
        result["errnoRet"] = rule.errnoret
    if rule.args:
        result["args"] = [
            {"index": arg.index, "value": arg.value, "valueTwo": arg.value_two, "op": arg.op} for arg in rule.args
        ]
    return result
