"""The RPCs end to end on an agent whose containers are plain processes (see `fake_crun`)."""

from __future__ import annotations

import asyncio
import hashlib
import os
import signal

import pytest
from grpclib.const import Status
from grpclib.exceptions import GRPCError

from guest.agent.cgroup import Cgroup
from guest.agent.service import AgentService, HealthService
from guest.agent.storage import registry
from protos.lean.gen import grpc as pb
from tests.unit.guest_agent.replies import body

pytestmark = pytest.mark.anyio


@pytest.fixture
async def service(agent):
    service = AgentService(agent)
    await service.create_sandbox(pb.CreateSandboxRequest(hostname="pod", sandbox_id="sb"))
    return service


@pytest.fixture
def run(service, make_spec):
    """Creates and starts a container that runs a shell script."""

    async def run(script: str, container_id: str = "c1", terminal: bool = False) -> None:
        spec = make_spec("sh", "-c", script, terminal=terminal)
        await service.create_container(
            pb.CreateContainerRequest(container_id=container_id, exec_id=container_id, oci=spec)
        )
        await service.start_container(pb.StartContainerRequest(container_id=container_id))

    return run


async def read_all(service, exec_id: str = "", container_id: str = "c1", stream: str = "read_stdout") -> bytes:
    output = b""
    while True:
        request = pb.ReadStreamRequest(container_id=container_id, exec_id=exec_id, len=1 << 16)
        data = body(await asyncio.wait_for(getattr(service, stream)(request), 20))
        if not data:
            return output
        output += data


async def wait(service, exec_id: str = "", container_id: str = "c1") -> int:
    request = pb.WaitProcessRequest(container_id=container_id, exec_id=exec_id)
    return (await asyncio.wait_for(service.wait_process(request), 20)).status


async def execute(service, exec_id: str, *args: str, terminal: bool = False) -> None:
    process = pb.Process(args=list(args), env=["PATH=/usr/bin:/bin"], cwd="/", terminal=terminal)
    await service.exec_process(pb.ExecProcessRequest(container_id="c1", exec_id=exec_id, process=process))


async def refused(awaitable) -> GRPCError:
    with pytest.raises(GRPCError) as caught:
        await awaitable
    return caught.value


class TestLife:
    async def test_a_container_runs_its_program_and_its_status_is_known(self, service, run):
        await run("echo out; echo err >&2; exit 7")

        assert await read_all(service) == b"out\n"
        assert await read_all(service, stream="read_stderr") == b"err\n"
        assert await wait(service) == 7

    async def test_nothing_runs_before_the_start(self, service, make_spec, tmp_path):
        mark = tmp_path / "mark"
        spec = make_spec("sh", "-c", f"echo x > {mark}")
        await service.create_container(pb.CreateContainerRequest(container_id="c1", exec_id="c1", oci=spec))
        assert not mark.exists()

        await service.start_container(pb.StartContainerRequest(container_id="c1"))

        assert await wait(service) == 0
        assert mark.exists()

    async def test_many_may_wait_and_late_ones_too(self, service, run):
        await run("exit 3")

        assert await asyncio.gather(*(wait(service, exec_id) for exec_id in ("", "c1", ""))) == [3, 3, 3]
        assert await wait(service) == 3

    async def test_an_exit_before_crun_has_returned_is_not_lost(self, service, run):
        for number in range(10):
            await run(f"exit {number}", container_id=f"q{number}")

        assert [await wait(service, container_id=f"q{number}") for number in range(10)] == list(range(10))

    async def test_a_removed_container_leaves_nothing(self, service, run, agent):
        before = set(os.listdir("/proc/self/fd"))
        await run("sleep 1000")

        await service.remove_container(pb.RemoveContainerRequest(container_id="c1", timeout=10))

        assert (await refused(wait(service))).status is Status.NOT_FOUND
        assert os.listdir(f"{agent.layout.state}/bundles") == []
        assert set(os.listdir("/proc/self/fd")) <= before

    async def test_an_id_can_be_used_again_after_the_removal(self, service, run):
        await run("exit 1")
        await service.remove_container(pb.RemoveContainerRequest(container_id="c1"))

        await run("exit 2")

        assert await wait(service) == 2

    async def test_a_second_start_is_refused(self, service, run):
        await run("sleep 1000")

        error = await refused(service.start_container(pb.StartContainerRequest(container_id="c1")))

        assert error.status is Status.FAILED_PRECONDITION

    async def test_a_taken_id_is_refused(self, service, run):
        await run("sleep 1000")

        assert (await refused(run("true"))).status is Status.ALREADY_EXISTS

    async def test_a_create_whose_caller_goes_is_finished(self, service, make_spec):
        spec = make_spec("sleep", "1000")
        request = pb.CreateContainerRequest(container_id="c1", exec_id="c1", oci=spec)
        task = asyncio.create_task(service.create_container(request))
        await asyncio.sleep(0)
        await asyncio.sleep(0)

        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

        async with asyncio.timeout(20):
            while "c1" not in service.agent.containers.ids:
                await asyncio.sleep(0)
        await service.start_container(pb.StartContainerRequest(container_id="c1"))


class TestStreams:
    async def test_eight_mebibytes_of_a_process_that_exits_at_once_all_arrive(self, service, run):
        await run("head -c 8388608 /dev/zero; exit 0")

        output = await read_all(service)

        assert hashlib.sha256(output).digest() == hashlib.sha256(bytes(8 << 20)).digest()
        assert await wait(service) == 0

    async def test_input_reaches_the_process_and_ends(self, service, run):
        await run("cat")
        data = os.urandom(300_000)

        write = asyncio.create_task(service.write_stdin(pb.WriteStreamRequest(container_id="c1", data=data)))
        received = b""
        while len(received) < len(data):
            received += body(await service.read_stdout(pb.ReadStreamRequest(container_id="c1", len=1 << 16)))
        await service.close_stdin(pb.CloseStdinRequest(container_id="c1"))

        assert (await write).len == len(data)
        assert received == data
        assert await wait(service) == 0

    async def test_an_empty_write_is_the_end_of_input(self, service, run):
        await run("cat; exit 5")

        await service.write_stdin(pb.WriteStreamRequest(container_id="c1"))

        assert await wait(service) == 5

    async def test_a_grandchild_that_keeps_the_pipe_never_blocks_the_exit(self, service, run):
        await run("sleep 1000 & echo $!; exit 4")

        assert await wait(service) == 4
        output = (await service.read_stdout(pb.ReadStreamRequest(container_id="c1", len=100))).data
        os.kill(int(output), signal.SIGKILL)
        assert await read_all(service) == b""

    async def test_a_read_of_nothing_is_refused(self, service, run):
        await run("sleep 1000")

        error = await refused(service.read_stdout(pb.ReadStreamRequest(container_id="c1")))

        assert error.status is Status.INVALID_ARGUMENT

    async def test_writing_to_an_ended_process_is_refused(self, service, run):
        await run("exit 0")
        await wait(service)

        error = await refused(service.write_stdin(pb.WriteStreamRequest(container_id="c1", data=b"x")))

        assert error.status is Status.FAILED_PRECONDITION

    async def test_a_terminal_has_one_stream_and_a_size(self, service, run):
        await run("stty size; read x; stty size; echo got $x", terminal=True)
        await service.read_stdout(pb.ReadStreamRequest(container_id="c1", len=100))

        await service.tty_win_resize(pb.TtyWinResizeRequest(container_id="c1", row=30, column=99))
        await service.write_stdin(pb.WriteStreamRequest(container_id="c1", data=b"abc\n"))

        output = await read_all(service)
        assert b"30 99" in output
        assert b"got abc" in output
        assert await read_all(service, stream="read_stderr") == b""

    async def test_a_process_without_a_terminal_has_no_size(self, service, run):
        await run("sleep 1000")

        error = await refused(service.tty_win_resize(pb.TtyWinResizeRequest(container_id="c1", row=1, column=1)))

        assert error.status is Status.FAILED_PRECONDITION


class TestExec:
    async def test_an_exec_runs_beside_the_init(self, service, run):
        await run("sleep 1000")

        await execute(service, "e1", "sh", "-c", "echo hi; exit 9")

        assert await read_all(service, "e1") == b"hi\n"
        assert await wait(service, "e1") == 9

    async def test_an_exec_may_have_a_terminal(self, service, run):
        await run("sleep 1000")

        await execute(service, "e1", "sh", "-c", "test -t 0 && echo tty", terminal=True)

        assert await read_all(service, "e1") == b"tty\r\n"

    async def test_a_program_that_is_not_there_is_told_as_127_wants_it(self, service, run):
        await run("sleep 1000")

        error = await refused(execute(service, "e1", "nosuch"))

        assert error.status is Status.NOT_FOUND
        assert error.message == 'exec: "nosuch": executable file not found in $PATH'

    async def test_a_program_that_is_not_executable_is_told_as_126_wants_it(self, service, run):
        await run("sleep 1000")

        error = await refused(execute(service, "e1", "/etc/passwd"))

        assert error.status is Status.PERMISSION_DENIED
        assert error.message == 'exec: "/etc/passwd": permission denied'

    async def test_the_same_goes_for_a_container_and_nothing_is_left_of_it(self, service, make_spec, agent):
        request = pb.CreateContainerRequest(container_id="c1", exec_id="c1", oci=make_spec("nosuch"))

        error = await refused(service.create_container(request))

        assert (error.status, error.message[:6]) == (Status.NOT_FOUND, "exec: ")
        assert agent.containers.ids == []
        assert os.listdir(f"{agent.layout.state}/bundles") == []

    async def test_a_failed_exec_frees_its_id(self, service, run):
        await run("sleep 1000")
        await refused(execute(service, "e1", "nosuch"))

        await execute(service, "e1", "true")

        assert await wait(service, "e1") == 0

    async def test_a_living_execs_id_is_taken_and_a_finished_ones_is_free(self, service, run):
        await run("sleep 1000")
        await execute(service, "e1", "cat")
        assert (await refused(execute(service, "e1", "true"))).status is Status.ALREADY_EXISTS

        await service.close_stdin(pb.CloseStdinRequest(container_id="c1", exec_id="e1"))
        await wait(service, "e1")
        await execute(service, "e1", "sh", "-c", "exit 8")

        assert await wait(service, "e1") == 8

    async def test_the_inits_id_is_not_free_for_an_exec(self, service, run):
        await run("sleep 1000")

        assert (await refused(execute(service, "c1", "true"))).status is Status.ALREADY_EXISTS

    async def test_an_exec_in_a_stopped_container_is_refused(self, service, run):
        await run("exit 0")
        await wait(service)

        assert (await refused(execute(service, "e1", "true"))).status is Status.FAILED_PRECONDITION

    async def test_execs_that_nobody_wants_any_more_are_forgotten(self, service, run, monkeypatch):
        monkeypatch.setattr("guest.agent.container.KEPT_EXECS", 2)
        await run("sleep 1000")
        for number in range(6):
            await execute(service, f"e{number}", "true")
            await read_all(service, f"e{number}")
            await read_all(service, f"e{number}", stream="read_stderr")
            await wait(service, f"e{number}")

        assert (await refused(wait(service, "e0"))).status is Status.NOT_FOUND
        assert await wait(service, "e5") == 0


class TestSignals:
    async def test_a_signal_reaches_the_init(self, service, run):
        await run("trap 'exit 33' USR1; echo ready; while :; do sleep 0.01; done")
        await service.read_stdout(pb.ReadStreamRequest(container_id="c1", len=100))

        await service.signal_process(pb.SignalProcessRequest(container_id="c1", exec_id="c1", signal=10))

        assert await wait(service) == 33

    async def test_a_kill_is_128_plus_9(self, service, run):
        await run("sleep 1000")

        await service.signal_process(pb.SignalProcessRequest(container_id="c1", signal=9))

        assert await wait(service) == 137

    async def test_a_kill_of_all_goes_to_the_cgroup(self, service, run, monkeypatch):
        killed = []
        monkeypatch.setattr(Cgroup, "kill", lambda cgroup: killed.append(cgroup.path))
        await run("sleep 1000")

        await service.signal_process(pb.SignalProcessRequest(container_id="c1", exec_id="c1", signal=9))
        assert killed == []
        await service.signal_process(pb.SignalProcessRequest(container_id="c1", signal=9))

        assert [path.rpartition("/kata/")[2] for path in killed] == ["c1"]
        monkeypatch.undo()

    async def test_a_signal_to_an_ended_process_is_no_error(self, service, run):
        await run("exit 0")
        await wait(service)

        await service.signal_process(pb.SignalProcessRequest(container_id="c1", signal=15))

    @pytest.mark.parametrize("number", [0, 65, 1000])
    async def test_what_is_no_signal_is_refused(self, service, run, number):
        await run("sleep 1000")

        request = pb.SignalProcessRequest(container_id="c1", signal=number)

        assert (await refused(service.signal_process(request))).status is Status.INVALID_ARGUMENT


class TestResources:
    async def test_new_limits_go_to_crun(self, service, run, agent):
        await run("sleep 1000")
        resources = pb.LinuxResources(memory=pb.LinuxMemory(limit=1000))

        await service.update_container(pb.UpdateContainerRequest(container_id="c1", resources=resources))

        with open(f"{agent.layout.crun_root}/c1/resources.json") as file:
            assert file.read() == '{"memory": {"limit": 1000}}'

    async def test_pause_and_resume_freeze_and_thaw(self, service, run, agent):
        await run("sleep 1000")
        path = agent.layout.container_cgroup("c1")
        os.makedirs(path)
        for name, text in (("cgroup.freeze", "0"), ("cgroup.events", "frozen 1\n")):
            with open(f"{path}/{name}", "w") as file:
                file.write(text)

        await service.pause_container(pb.PauseContainerRequest(container_id="c1"))
        assert (await refused(execute(service, "e1", "true"))).status is Status.FAILED_PRECONDITION
        with open(f"{path}/cgroup.events", "w") as file:
            file.write("frozen 0\n")
        await service.resume_container(pb.ResumeContainerRequest(container_id="c1"))

        await execute(service, "e1", "true")

    async def test_resuming_what_runs_is_refused(self, service, run):
        await run("sleep 1000")

        error = await refused(service.resume_container(pb.ResumeContainerRequest(container_id="c1")))

        assert error.status is Status.FAILED_PRECONDITION


class TestRefusals:
    @pytest.mark.parametrize("bad", ["", "../x", "a/b", "-x", "a" * 200])
    async def test_bad_container_ids_are_refused_everywhere(self, service, bad, make_spec):
        for awaitable in (
            service.create_container(pb.CreateContainerRequest(container_id=bad, oci=make_spec("true"))),
            service.start_container(pb.StartContainerRequest(container_id=bad)),
            service.remove_container(pb.RemoveContainerRequest(container_id=bad)),
            service.exec_process(pb.ExecProcessRequest(container_id=bad, exec_id="e")),
            service.signal_process(pb.SignalProcessRequest(container_id=bad, signal=9)),
            service.wait_process(pb.WaitProcessRequest(container_id=bad)),
            service.stats_container(pb.StatsContainerRequest(container_id=bad)),
            service.pause_container(pb.PauseContainerRequest(container_id=bad)),
            service.update_container(pb.UpdateContainerRequest(container_id=bad)),
            service.read_stdout(pb.ReadStreamRequest(container_id=bad, len=1)),
        ):
            assert (await refused(awaitable)).status is Status.INVALID_ARGUMENT

    async def test_what_does_not_exist_is_not_found(self, service):
        for awaitable in (
            service.start_container(pb.StartContainerRequest(container_id="none")),
            service.remove_container(pb.RemoveContainerRequest(container_id="none")),
            service.wait_process(pb.WaitProcessRequest(container_id="none")),
            service.stats_container(pb.StatsContainerRequest(container_id="none")),
        ):
            assert (await refused(awaitable)).status is Status.NOT_FOUND

    async def test_what_this_agent_does_not_do_says_so(self, service, make_spec):
        spec = make_spec("true")
        for request in (
            pb.CreateContainerRequest(
                container_id="c1", oci=spec, devices=[pb.Device(type="vfio-ap", container_path="/dev/x")]
            ),
            pb.CreateContainerRequest(container_id="c1", oci=spec, shared_mounts=[pb.SharedMount()]),
            pb.CreateContainerRequest(container_id="c1", oci=spec, stdout_port=1),
            pb.CreateContainerRequest(container_id="c1", oci=spec, string_user=pb.StringUser(uid="me")),
        ):
            assert (await refused(service.create_container(request))).status is Status.UNIMPLEMENTED

    async def test_a_policy_that_is_none_is_refused_and_changes_nothing(self, service):
        error = await refused(service.set_policy(pb.SetPolicyRequest(policy="this is not Rego")))

        assert error.status in (Status.INVALID_ARGUMENT, Status.UNIMPLEMENTED)
        assert "policy" in error.message.lower()
        await service.list_interfaces(pb.ListInterfacesRequest())

    async def test_a_mount_source_that_is_a_link_is_refused(self, service, make_spec, agent, tmp_path):
        source = f"{agent.layout.shared_containers}/volume"
        os.symlink(tmp_path, source)
        spec = make_spec("true")
        spec.mounts = [pb.Mount(destination="/data", type="bind", source=source)]

        error = await refused(service.create_container(pb.CreateContainerRequest(container_id="c1", oci=spec)))

        assert error.status is Status.INVALID_ARGUMENT

    async def test_a_mount_source_that_is_not_there_is_named(self, service, make_spec, agent):
        spec = make_spec("true")
        spec.mounts = [pb.Mount(destination="/d", type="bind", source=f"{agent.layout.shared_containers}/none")]

        error = await refused(service.create_container(pb.CreateContainerRequest(container_id="c1", oci=spec)))

        assert error.status is Status.NOT_FOUND
        assert "none" in error.message


class TestSandbox:
    async def test_a_second_sandbox_is_refused(self, service):
        assert (await refused(service.create_sandbox(pb.CreateSandboxRequest()))).status is Status.ALREADY_EXISTS

    async def test_a_container_needs_a_sandbox(self, agent, make_spec):
        request = pb.CreateContainerRequest(container_id="c1", oci=make_spec("true"))

        error = await refused(AgentService(agent).create_container(request))

        assert error.status is Status.FAILED_PRECONDITION

    async def test_a_sandbox_that_failed_can_be_made_again(self, agent):
        service = AgentService(agent)
        bad = pb.CreateSandboxRequest(storages=[pb.Storage(driver="nothing", mount_point="/x")])
        assert (await refused(service.create_sandbox(bad))).status is Status.UNIMPLEMENTED

        await service.create_sandbox(pb.CreateSandboxRequest())

    async def test_its_resolver_lines_are_written(self, agent):
        await AgentService(agent).create_sandbox(pb.CreateSandboxRequest(dns=["nameserver 10.0.0.1", "search x"]))

        with open(f"{agent.layout.sandbox}/resolv.conf") as file:
            assert file.read() == "nameserver 10.0.0.1\nsearch x\n"

    @pytest.mark.parametrize(
        "request_",
        [
            pb.CreateSandboxRequest(dns=["a\nb"]),
            pb.CreateSandboxRequest(dns=["x"] * 100),
            pb.CreateSandboxRequest(hostname="a b"),
            pb.CreateSandboxRequest(sandbox_id="../x"),
            pb.CreateSandboxRequest(kernel_modules=[pb.KernelModule(name="../evil")]),
            pb.CreateSandboxRequest(kernel_modules=[pb.KernelModule(name="x", parameters=["-C/etc"])]),
        ],
    )
    async def test_malformed_requests_are_refused(self, agent, request_):
        assert (await refused(AgentService(agent).create_sandbox(request_))).status is Status.INVALID_ARGUMENT

    async def test_with_a_shared_pid_namespace_the_first_container_holds_it(self, agent, make_spec):
        service = AgentService(agent)
        await service.create_sandbox(pb.CreateSandboxRequest(sandbox_pidns=True))
        for name in ("first", "second"):
            spec = make_spec("sleep", "1000")
            await service.create_container(pb.CreateContainerRequest(container_id=name, exec_id=name, oci=spec))

        first, second = (agent.containers.get(name) for name in ("first", "second"))

        assert {"type": "pid"} in first.config["linux"]["namespaces"]
        joined = {"type": "pid", "path": f"{agent.layout.proc}/{first.init.pid}/ns/pid"}
        assert joined in second.config["linux"]["namespaces"]

    async def test_destroying_it_ends_containers_and_calls_and_stops_the_agent(self, service, run, agent):
        await run("sleep 1000")
        calls = [
            asyncio.create_task(wait(service)),
            asyncio.create_task(read_all(service)),
            asyncio.create_task(refused(service.get_oom_event(pb.GetOomEventRequest()))),
        ]
        await asyncio.sleep(0)

        await service.destroy_sandbox(pb.DestroySandboxRequest())

        status, output, error = await asyncio.wait_for(asyncio.gather(*calls), 20)
        assert (status, output, error.status) == (137, b"", Status.FAILED_PRECONDITION)
        assert agent.containers.ids == []
        assert agent.stopping.is_set()

    async def test_storages_of_a_container_live_as_long_as_it(self, service, make_spec, agent):
        place = f"{agent.layout.sandbox}/data"
        storage = pb.Storage(driver="local", mount_point=place)
        request = pb.CreateContainerRequest(container_id="c1", oci=make_spec("sleep", "1000"), storages=[storage])

        await service.create_container(request)
        assert os.path.isdir(place)
        await service.remove_container(pb.RemoveContainerRequest(container_id="c1"))

        assert not os.path.exists(place)

    async def test_a_container_that_fails_gives_its_storages_back(self, service, make_spec, agent):
        place = f"{agent.layout.sandbox}/data"
        storage = pb.Storage(driver="local", mount_point=place)
        request = pb.CreateContainerRequest(container_id="c1", oci=make_spec("nosuch"), storages=[storage])

        await refused(service.create_container(request))

        assert not os.path.exists(place)


class TestGuest:
    async def test_health_is_serving_and_has_versions(self):
        health = HealthService()

        assert (await health.check(pb.CheckRequest())).status == pb.HealthCheckResponseServingStatus.SERVING
        assert (await health.version(pb.CheckRequest())).agent_version

    async def test_details_name_the_storage_drivers(self, service, agent):
        path = f"{agent.layout.sys}/devices/system/memory"
        os.makedirs(path)
        with open(f"{path}/block_size_bytes", "w") as file:
            file.write("8000000\n")

        details = await service.get_guest_details(pb.GuestDetailsRequest(mem_block_size=True, mem_hotplug_probe=True))

        assert details.mem_block_size_bytes == 128 << 20
        assert not details.support_mem_hotplug_probe
        assert details.agent_details.storage_handlers == list(registry.DRIVERS)

    async def test_a_termination_message_is_read_from_its_mount(self, service, make_spec, agent):
        source = f"{agent.layout.shared_containers}/c1-termination"
        with open(source, "w") as file:
            file.write("x" * 5000 + "the end")
        spec = make_spec("sleep", "1000")
        spec.mounts = [pb.Mount(destination="/dev/termination-log", type="bind", source=source)]
        await service.create_container(pb.CreateContainerRequest(container_id="c1", oci=spec))

        request = pb.GetDiagnosticDataRequest(log_type="termination-log", container_id="c1")
        data = (await service.get_diagnostic_data(request)).data

        assert len(data) == 4096
        assert data.endswith("the end")

    async def test_a_container_without_a_termination_message_says_so(self, service, run):
        await run("sleep 1000")

        request = pb.GetDiagnosticDataRequest(log_type="termination-log", container_id="c1")

        assert (await refused(service.get_diagnostic_data(request))).status is Status.NOT_FOUND

    async def test_an_unknown_log_type_is_refused(self, service):
        request = pb.GetDiagnosticDataRequest(log_type="secrets", container_id="c1")

        assert (await refused(service.get_diagnostic_data(request))).status is Status.INVALID_ARGUMENT

    async def test_the_agents_last_words_can_be_had(self, service):
        assert (await service.get_diagnostic_data(pb.GetDiagnosticDataRequest(log_type="agent-log"))).data == ""


async def test_an_exec_whose_container_went_while_it_started_leaves_nothing(service, agent, run, monkeypatch):
    await run("exec sleep 60")
    launcher, launched = agent.containers._launcher, []
    launch = launcher.launch

    async def slow(*arguments):
        launched.append(await launch(*arguments))
        await service.remove_container(pb.RemoveContainerRequest(container_id="c1"))
        return launched[0]

    monkeypatch.setattr(launcher, "launch", slow)

    with pytest.raises(GRPCError, match="container c1 does not exist"):
        await execute(service, "e1", "sleep", "60")

    assert launched[0].streams.drained
    assert await asyncio.wait_for(launched[0].wait(), 20) == 128 + signal.SIGKILL
