"""A policy in a live guest: what it allows is done, everything else is not, whichever RPC it is."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator
from typing import Any

import pytest
from grpclib.const import Status

from agent_client.errors import AgentError
from protos.gen import grpc as pb
from tests.harness.live_guest import STANDING, Live, process

pytestmark = [pytest.mark.integration, pytest.mark.anyio]

POLICY = """package agent_policy
default ExecProcessRequest := false
ExecProcessRequest { input.process.Args == ["echo", "hello"] }
default WaitProcessRequest := true
default ReadStreamRequest := true
default SetPolicyRequest := true
"""
#: With this one nothing is denied any more, for the tests that follow.
LENIENT = "package agent_policy\ndefault AllowRequestsFailingPolicy := true\ndefault SetPolicyRequest := true\n"
#: RPCs that the policy leaves open.
OPEN = {"ExecProcess", "WaitProcess", "ReadStdout", "ReadStderr", "SetPolicy"}


@pytest.fixture(scope="module")
async def guarded(guest: Live) -> AsyncIterator[Live]:
    """The guest with the policy in force."""
    await guest.agent.upkeep.set_policy(POLICY)
    yield guest
    await guest.agent.upkeep.set_policy(LENIENT)


async def test_what_the_policy_allows_is_done(guarded: Live):
    output = await guarded.exec(process("echo", "hello"))

    assert (output.status, output.stdout) == (0, "hello\n")


async def test_what_it_does_not_allow_is_denied_by_its_name(guarded: Live):
    with pytest.raises(AgentError) as caught:
        await guarded.exec(process("echo", "goodbye"))

    assert caught.value.code is Status.PERMISSION_DENIED
    assert "ExecProcessRequest is blocked by policy" in caught.value.message


async def test_every_rpc_is_checked(guarded: Live):
    stub = pb.AgentServiceStub(guarded.agent.line)  # type: ignore[arg-type]
    codes: dict[str, Any] = {}
    for route, handler in pb.AgentServiceBase().__mapping__().items():
        rpc = route.rpartition("/")[2]
        if rpc not in OPEN:
            codes[rpc] = await _code(stub, handler.request_type)

    assert {rpc for rpc, code in codes.items() if code is not Status.PERMISSION_DENIED} == set()
    assert len(codes) > 35


async def test_health_is_no_secret(guarded: Live):
    await guarded.agent.check()


async def test_a_policy_that_makes_no_sense_leaves_the_old_one_in_force(guarded: Live):
    with pytest.raises(AgentError) as caught:
        await guarded.agent.upkeep.set_policy("package agent_policy\nthis is { no policy")

    assert caught.value.code is Status.INVALID_ARGUMENT
    with pytest.raises(AgentError) as denied:
        await guarded.agent.stats_container(STANDING)
    assert denied.value.code is Status.PERMISSION_DENIED


async def _code(stub: pb.AgentServiceStub, request: type[Any]) -> Status | None:
    """What a call of the RPC with such requests ends with; None for success."""
    from grpclib.exceptions import GRPCError

    for _, method in inspect.getmembers(stub, inspect.ismethod):
        hints = inspect.signature(method).parameters
        if hints.get("message") is not None and request.__name__ in str(hints["message"].annotation):
            try:
                await method(request(), timeout=60)
            except GRPCError as error:
                return error.status
            return None
    raise AssertionError(f"{request.__name__} is nobody's")
