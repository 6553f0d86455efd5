"""One encode and one decode for both flavours, and the errors of both."""

from __future__ import annotations

import pytest

import ttrpc.codec
from protos import rich
from protos.codec import DecodeError, EncodeError, MessageCodec, decode, encode
from protos.gen import grpc as rich_agent
from protos.gen.containerd.runtime.bootstrap.v1 import BootstrapResult
from protos.gen.containerd.task import v2 as rich_task
from protos.gen.containerd.task.v2 import ConnectRequest, ConnectResponse, StateResponse
from protos.gen.containerd.v1.types import Status
from protos.gen.google.rpc import Status as RpcStatus
from protos.gen.io.containerd.cgroups.v2 import PsiData
from protos.gen.ttrpc import Request, Response
from protos.gen.wellknown import Timestamp
from protos.lean.gen import containerd_runtime_bootstrap_v1 as lean_bootstrap
from protos.lean.gen import containerd_task_v2 as lean_task
from protos.lean.gen import grpc as lean_agent
from protos.lean.gen import types as lean_types
from protos.lean.gen import wellknown as lean_wellknown

# The payloads of the test vectors in containerd's shim contract (frame headers left out).
_CONNECT = "0a17636f6e7461696e6572642e7461736b2e76322e5461736b1207436f6e6e6563741a040a0263312080e497d012"
_CONNECTED = "120908922110cc211a0132"
_NOT_FOUND = "0a1d08051219636f6e7461696e657220226331223a206e6f7420666f756e64"
_BOOTSTRAP = "0802121c756e69783a2f2f2f72756e2f636f6e7461696e6572642f732f6162631a057474727063"


def test_a_request_has_the_bytes_that_containerd_sends():
    call = Request(
        service="containerd.task.v2.Task",
        method="Connect",
        payload=encode(ConnectRequest(id="c1")),
        timeout_nano=5_000_000_000,
    )
    assert encode(call).hex() == _CONNECT
    assert decode(Request, bytes.fromhex(_CONNECT)) == call


def test_a_reply_has_the_bytes_that_containerd_reads():
    reply = Response(payload=encode(ConnectResponse(shim_pid=4242, task_pid=4300, version="2")))
    assert encode(reply).hex() == _CONNECTED
    failure = Response(status=RpcStatus(code=5, message='container "c1": not found'))
    assert encode(failure).hex() == _NOT_FOUND
    assert encode(Response()) == b""


@pytest.mark.parametrize("message_type", [BootstrapResult, lean_bootstrap.BootstrapResult])
def test_both_flavours_print_the_bootstrap_result_that_containerd_reads(message_type):
    result = message_type(version=2, address="unix:///run/containerd/s/abc", protocol="ttrpc")
    assert encode(result).hex() == _BOOTSTRAP
    assert decode(message_type, bytes.fromhex(_BOOTSTRAP)) == result


def test_the_transport_sees_its_own_decode_error():
    codec = MessageCodec()
    with pytest.raises(ttrpc.codec.DecodeError, match=r"^StateResponse: field 1 is truncated$"):
        codec.decode(StateResponse, b"\x0a\x05a")
    assert DecodeError is ttrpc.codec.DecodeError
    state = StateResponse(id="c1", status=Status.RUNNING)
    assert codec.decode(StateResponse, codec.encode(state)) == state


def test_an_object_that_is_no_message_is_a_type_error():
    with pytest.raises(TypeError, match="int is not a message class"):
        encode(5)
    with pytest.raises(TypeError, match="str is not a message class"):
        decode(str, b"")


@pytest.mark.parametrize(
    ("faulty", "reason"),
    [
        (StateResponse(pid=-1), "StateResponse.pid: -1 is not a uint32"),
        (StateResponse(pid=2**32), "StateResponse.pid: 4294967296 is not a uint32"),
        (StateResponse(pid="7"), "StateResponse.pid: "),
        (StateResponse(id=b"c1"), "StateResponse.id: "),
        (StateResponse(id="\ud800"), "StateResponse.id: UnicodeEncodeError"),
        (StateResponse(terminal="yes"), "StateResponse.terminal: 'yes' is not a bool"),
        (StateResponse(exited_at=5), "StateResponse.exited_at: a int where a Timestamp belongs"),
        (StateResponse(exited_at=lean_wellknown.Timestamp()), "StateResponse.exited_at: a Timestamp where a Timestamp"),
        (
            StateResponse(exited_at=Timestamp(nanos=2**31)),
            "StateResponse.exited_at: Timestamp.nanos: 2147483648 is not",
        ),
        (rich_agent.Process(args="sh"), "Process.args: a str where a list belongs"),
        (rich_agent.Process(args=["sh", None]), "Process.args: "),
        (rich_agent.Spec(annotations={"a": 1}), "Spec.annotations: "),
        (lean_task.StateResponse(pid=-1), "StateResponse: -1 is not a uint32"),
        (lean_task.StateResponse(pid="7"), "StateResponse: TypeError"),
        (lean_task.StateResponse(id=b"c1"), "StateResponse: AttributeError"),
        (lean_task.StateResponse(id="\ud800"), "StateResponse: UnicodeEncodeError"),
        (lean_task.StateResponse(exited_at=Timestamp()), "StateResponse: a Timestamp where a Timestamp belongs"),
        (lean_agent.Process(args="sh"), "Process: a str where a list belongs"),
        (lean_agent.Spec(annotations={"a": 1}), "Spec: AttributeError"),
    ],
)
def test_a_value_that_its_field_cannot_carry_is_an_error_that_names_the_message(faulty, reason):
    with pytest.raises(EncodeError) as caught:
        encode(faulty)
    assert str(caught.value).startswith(reason)


def test_a_misspelt_attribute_is_an_error_in_both_flavours():
    state = StateResponse(id="c1")
    state.exitstatus = 1
    with pytest.raises(EncodeError, match="StateResponse has no field exitstatus"):
        encode(state)
    with pytest.raises(AttributeError):
        lean_task.StateResponse().exitstatus = 1


def test_rich_messages_keep_unknown_fields_and_lean_ones_drop_them():
    unknown = bytes.fromhex("f87f01 fa7f0161 fd7f01020304 f97f0102030405060708 fb7f0801fc7f")
    known = encode(ConnectRequest(id="c1"))
    assert encode(decode(ConnectRequest, unknown + known)) == known + unknown
    assert encode(decode(lean_task.ConnectRequest, unknown + known)) == known


@pytest.mark.parametrize("module", [rich_agent, lean_agent])
def test_pieces_of_a_submessage_merge_and_the_last_scalar_wins(module):
    pieces = [
        module.CreateContainerRequest(
            container_id="a", oci=module.Spec(hostname="h", process=module.Process(args=["x"]))
        ),
        module.CreateContainerRequest(container_id="b", oci=module.Spec(process=module.Process(cwd="/", args=["y"]))),
    ]
    merged = decode(module.CreateContainerRequest, b"".join(encode(p) for p in pieces))
    expected = module.Spec(hostname="h", process=module.Process(cwd="/", args=["x", "y"]))
    assert merged == module.CreateContainerRequest(container_id="b", oci=expected)


@pytest.mark.parametrize("module", [rich_agent, lean_agent])
def test_repeated_numbers_are_read_packed_and_one_by_one(module):
    data = bytes.fromhex("12 03 01 ac 02 10 05 12 00 10 ff 01 12 02 07 08")
    assert decode(module.CpuUsage, data).percpu_usage == [1, 300, 5, 255, 7, 8]


@pytest.mark.parametrize("module", [rich_agent, lean_agent])
def test_a_map_entry_may_lack_key_or_value_and_the_last_entry_of_a_key_wins(module):
    data = bytes.fromhex("32 00 32 03 0a 01 61 32 05 0a 01 62 10 05 32 05 10 06 0a 01 62")
    assert decode(module.MemoryStats, data).stats == {"": 0, "a": 0, "b": 6}
    stats = decode(module.CgroupStats, bytes.fromhex("2a 00 2a 0b 0a 01 61 12 02 08 01 12 02 18 02")).hugetlb_stats
    assert stats == {"": module.HugetlbStats(), "a": module.HugetlbStats(usage=1, failcnt=2)}


@pytest.mark.parametrize("module", [rich_agent, lean_agent])
def test_a_field_with_presence_is_sent_when_it_is_zero(module):
    absent, zero = module.LinuxSyscall(), module.LinuxSyscall(errnoret=0)
    assert (encode(absent), encode(zero)) == (b"", b"\x18\x00")
    assert decode(module.LinuxSyscall, b"").errnoret is None
    assert decode(module.LinuxSyscall, b"\x18\x00").errnoret == 0


def test_unknown_enum_values_are_kept():
    for value in (77, -5):
        data = encode(StateResponse(status=value))
        assert decode(StateResponse, data).status == value
        assert encode(decode(StateResponse, data)) == data
        assert decode(lean_task.StateResponse, data).status == value
    assert decode(StateResponse, b"\x20\x02").status is Status.RUNNING


@pytest.mark.parametrize("task", [lean_task, rich_task])
def test_messages_never_share_a_list(task):
    first, second = decode(task.CreateTaskRequest, b""), decode(task.CreateTaskRequest, b"")
    first.rootfs.append(None)
    assert second.rootfs == []
    assert task.CreateTaskRequest().rootfs == []


def test_lean_messages_show_the_fields_that_are_set():
    assert repr(lean_types.IpAddress(address="::1")) == "IpAddress(address='::1')"
    assert repr(lean_wellknown.Timestamp(seconds=-1)) == "Timestamp(seconds=-1)"
    assert lean_wellknown.Timestamp() != lean_wellknown.Any()


def test_a_negative_zero_is_not_nothing():
    assert encode(PsiData(avg10=0.0)) == b""
    assert encode(PsiData(avg10=-0.0)) != b""


def test_a_table_is_compiled_once_per_class():
    assert rich.table_of(StateResponse) is rich.table_of(StateResponse)


@pytest.mark.parametrize("module", [rich_agent, lean_agent])
@pytest.mark.parametrize("buffer", [bytearray, memoryview])
def test_a_message_does_not_hold_on_to_the_buffer_it_was_read_from(module, buffer):
    message = decode(
        module.WriteStreamRequest, buffer(encode(module.WriteStreamRequest(container_id="c1", data=b"in")))
    )
    assert (message.container_id, type(message.data), message.data) == ("c1", bytes, b"in")
