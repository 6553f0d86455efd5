"""The policy in force: what it allows and denies, how it is replaced, and that whatever fails denies."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest
from grpclib.const import Status
from grpclib.exceptions import GRPCError

from guest.agent.errors import InvalidArgumentError, PermissionDeniedError, UnimplementedError
from guest.agent.policy import engine
from guest.agent.policy.guard import Policy
from guest.agent.service import AgentService
from protos.lean.gen import grpc as pb

pytestmark = pytest.mark.anyio

HEAD = """package agent_policy
import future.keywords.in
import future.keywords.every
"""
#: In the style of Kata's genpolicy: functions of several bodies, prints, data in the policy itself.
POLICY = (
    HEAD
    + """
default StartContainerRequest := true
default CreateContainerRequest := false
default ExecProcessRequest := false
default CopyFileRequest := false

CreateContainerRequest {
    print("CreateContainerRequest: start", input.container_id)
    some p_container in policy_data.containers
    allow_root(p_container.root, input.OCI.Root.Path)
    every mount in input.OCI.Mounts { allow_mount(mount) }
    not input.OCI.Linux.Devices[0]
}
allow_root(p_root, i_root) { p_root == i_root }
allow_root(p_root, i_root) { regex.match(concat("", ["^", p_root, "/[a-z]+$"]), i_root) }
allow_mount(mount) { startswith(mount.destination, "/proc") }
allow_mount(mount) { mount.type == "bind"; count(mount.options) < 3 }

ExecProcessRequest {
    command := concat(" ", input.process.Args)
    some allowed in policy_data.commands
    command == allowed
}
CopyFileRequest {
    input.file_type == "Symlink"
    not contains(input.symlink_target, "..")
}
policy_data := {"containers": [{"root": "/run/kata-containers/shared"}], "commands": ["sh -c true", "ls"]}
"""
)


@pytest.fixture
async def policy(reaper):
    policy = Policy([request for _, _, request, _ in pb.AgentServiceBase.METHODS], reaper)
    yield policy
    policy.close()


async def allowed(policy: Policy, message) -> bool:
    try:
        await policy.require(message)
    except PermissionDeniedError:
        return False
    return True


def create(root: str = "/run/kata-containers/shared/rootfs", **spec) -> pb.CreateContainerRequest:
    return pb.CreateContainerRequest(container_id="c1", oci=pb.Spec(root=pb.Root(path=root), linux=pb.Linux(), **spec))


def execute(*args: str) -> pb.ExecProcessRequest:
    return pb.ExecProcessRequest(container_id="c1", process=pb.Process(args=list(args)))


class TestDecisions:
    async def test_rules_are_asked_by_the_name_of_the_request(self, policy):
        await policy.set(POLICY)

        assert await allowed(policy, pb.StartContainerRequest(container_id="c1"))
        assert await allowed(policy, execute("ls"))
        assert not await allowed(policy, execute("ls", "-l"))

    async def test_a_rule_sees_the_whole_request(self, policy):
        await policy.set(POLICY)

        assert await allowed(policy, create(mounts=[pb.Mount(destination="/proc"), pb.Mount(type="bind")]))
        assert not await allowed(policy, create(mounts=[pb.Mount(destination="/sys", type="sysfs")]))
        assert not await allowed(policy, create("/elsewhere"))
        assert not await allowed(policy, pb.CreateContainerRequest(container_id="c1"))

    async def test_what_has_no_rule_is_denied(self, policy):
        await policy.set(POLICY)

        with pytest.raises(PermissionDeniedError, match="SetGuestDateTimeRequest is blocked by policy"):
            await policy.require(pb.SetGuestDateTimeRequest())

    async def test_links_are_told_by_their_target(self, policy):
        await policy.set(POLICY)

        assert await allowed(policy, pb.CopyFileRequest(path="/x", file_mode=0o120777, data=b"data/x"))
        assert not await allowed(policy, pb.CopyFileRequest(path="/x", file_mode=0o120777, data=b"../x"))
        assert not await allowed(policy, pb.CopyFileRequest(path="/x", file_mode=0o100644))

    async def test_a_rule_that_gives_something_else_than_a_truth_value_denies(self, policy):
        await policy.set(HEAD + 'StartContainerRequest := "true"\nPauseContainerRequest := {"allowed": "yes"}\n')

        assert not await allowed(policy, pb.StartContainerRequest())
        assert not await allowed(policy, pb.PauseContainerRequest())

    async def test_a_rule_that_conflicts_with_itself_denies(self, policy):
        await policy.set(
            HEAD + "A := 1 { input.container_id == 0 }\nStartContainerRequest { 1 == 1 }\n"
            'StartContainerRequest := false { input.container_id == "c1" }\n'
        )

        assert not await allowed(policy, pb.StartContainerRequest(container_id="c1"))

    async def test_a_lenient_policy_lets_everything_pass(self, policy, caplog):
        await policy.set(HEAD + "AllowRequestsFailingPolicy := true\ndefault StartContainerRequest := false\n")

        assert await allowed(policy, pb.StartContainerRequest())
        assert await allowed(policy, pb.PauseContainerRequest())
        assert "StartContainerRequest would be blocked" in caplog.text


class TestMemory:
    TWICE = (
        HEAD
        + """
default StartContainerRequest := false
default PauseContainerRequest := false
StartContainerRequest := {"allowed": true, "ops": ops} {
    not data.pstate[input.container_id]
    ops := [{"op": "add", "path": concat("", ["/pstate/", input.container_id]), "value": 1}]
}
PauseContainerRequest { data.pstate[input.container_id] == 1 }
"""
    )

    async def test_a_rule_may_remember_what_it_has_allowed(self, policy):
        await policy.set(self.TWICE)

        starts = [await allowed(policy, pb.StartContainerRequest(container_id=name)) for name in ("a", "a", "b")]

        assert starts == [True, False, True]
        assert await allowed(policy, pb.PauseContainerRequest(container_id="a"))
        assert not await allowed(policy, pb.PauseContainerRequest(container_id="c"))

    async def test_a_new_policy_remembers_nothing(self, policy):
        await policy.set(self.TWICE)
        await policy.require(pb.StartContainerRequest(container_id="a"))

        await policy.set(self.TWICE)

        assert await allowed(policy, pb.StartContainerRequest(container_id="a"))

    async def test_what_can_t_be_remembered_is_denied(self, policy):
        await policy.set(HEAD + 'StartContainerRequest := {"allowed": true, "ops": [{"op": "remove", "path": "/x"}]}\n')

        assert not await allowed(policy, pb.StartContainerRequest())

    async def test_a_repeated_question_is_not_asked_again(self, policy, monkeypatch):
        await policy.set(POLICY)
        await policy.require(execute("ls"))
        monkeypatch.setattr(engine.Engine, "evaluate", None)

        await policy.require(execute("ls"))

    async def test_but_it_is_if_the_rules_look_at_the_clock(self, policy, monkeypatch):
        await policy.set(HEAD + "StartContainerRequest { time.now_ns() > 0 }\n")
        await policy.require(pb.StartContainerRequest())
        monkeypatch.setattr(engine.Engine, "evaluate", None)

        with pytest.raises(TypeError):
            await policy.require(pb.StartContainerRequest())


class TestReplacing:
    @pytest.mark.parametrize(
        "text",
        [
            "",
            "garbage",
            "package agent_policy\nStartContainerRequest := ",
            "package other\ndefault StartContainerRequest := true",
            "package agent_policy\nStartContainerRequest { nosuchfunction(1) }",
            "package agent_policy\nStartContainerRequest { B }\nB { StartContainerRequest }",
        ],
    )
    async def test_what_is_no_policy_is_refused_and_the_old_one_stays(self, policy, text):
        await policy.set(POLICY)

        with pytest.raises(InvalidArgumentError, match="policy is refused"):
            await policy.set(text)

        assert await allowed(policy, execute("ls"))
        assert not await allowed(policy, execute("rm"))

    async def test_a_first_policy_that_is_refused_leaves_everything_allowed(self, policy):
        with pytest.raises(InvalidArgumentError):
            await policy.set("garbage")

        assert not policy.active

    async def test_the_next_policy_is_in_force_at_once(self, policy):
        await policy.set(POLICY)
        assert await allowed(policy, execute("ls"))

        await policy.set(HEAD + "default ExecProcessRequest := false\n")

        assert not await allowed(policy, execute("ls"))

    async def test_a_guest_without_an_engine_says_so(self, policy, monkeypatch):
        monkeypatch.setattr(engine, "home", lambda: "")

        with pytest.raises(UnimplementedError, match="no policy engine"):
            await policy.set(POLICY)


class TestTheEngine:
    async def test_one_that_ends_is_replaced_with_policy_and_memory(self, policy):
        await policy.set(TestMemory.TWICE)
        await policy.require(pb.StartContainerRequest(container_id="a"))
        os.kill(policy._engine._pid, signal.SIGKILL)

        assert not await allowed(policy, pb.StartContainerRequest(container_id="b"))

        assert await allowed(policy, pb.StartContainerRequest(container_id="b"))
        assert not await allowed(policy, pb.StartContainerRequest(container_id="a"))

    async def test_one_that_does_not_answer_denies(self, policy, monkeypatch):
        await policy.set(POLICY)
        monkeypatch.setattr(engine, "ANSWER_TIMEOUT", 0.2)
        os.kill(policy._engine._pid, signal.SIGSTOP)

        with pytest.raises(PermissionDeniedError, match="did not answer within"):
            await policy.require(execute("ls"))

    async def test_its_process_goes_with_the_policy(self, policy, reaper):
        await policy.set(POLICY)
        ended = policy._engine._ended

        policy.close()

        assert await asyncio.wait_for(ended, 20) == 128 + signal.SIGKILL


class Stream:
    """A call as ttrpc gives it to a handler."""

    def __init__(self, message) -> None:
        self._message = message
        self.reply = None

    async def recv_message(self):
        return self._message

    async def send_message(self, message) -> None:
        self.reply = message


class TestTheService:
    @pytest.fixture
    async def call(self, agent):
        handlers = AgentService(agent).__mapping__()

        async def call(rpc: str, message):
            stream = Stream(message)
            await handlers[f"/grpc.AgentService/{rpc}"].func(stream)
            return stream.reply

        return call

    async def test_every_rpc_is_checked_before_it_acts(self, call, agent):
        await call("SetPolicy", pb.SetPolicyRequest(policy=HEAD + "default X := false\n"))

        for route, _, request, _ in pb.AgentServiceBase.METHODS:
            with pytest.raises(GRPCError) as caught:
                await call(route.rpartition("/")[2], request())
            assert caught.value.status is Status.PERMISSION_DENIED, route
        assert not agent.stopping.is_set()

    async def test_a_policy_decides_about_its_own_replacement(self, call):
        await call(
            "SetPolicy", pb.SetPolicyRequest(policy=HEAD + 'SetPolicyRequest { contains(input.policy, "v2") }\n')
        )

        with pytest.raises(GRPCError, match="SetPolicyRequest is blocked by policy"):
            await call("SetPolicy", pb.SetPolicyRequest(policy=HEAD + "default SetPolicyRequest := true\n"))
        await call("SetPolicy", pb.SetPolicyRequest(policy=HEAD + "# v2\ndefault GetMetricsRequest := true\n"))

        assert (await call("GetMetrics", pb.GetMetricsRequest())).metrics

    async def test_without_a_policy_nothing_is_asked(self, call, agent):
        assert (await call("GetMetrics", pb.GetMetricsRequest())).metrics
        assert agent.policy is None

    async def test_details_name_the_feature(self, call):
        details = await call("GetGuestDetails", pb.GuestDetailsRequest())

        assert "agent-policy" in details.agent_details.extra_features
