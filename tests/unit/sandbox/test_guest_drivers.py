"""Contract: what the guest's agent lacks is told before it is asked for."""

from __future__ import annotations

import pytest

from protos.gen import grpc as agent_pb
from sandbox.errors import FailedPreconditionError
from sandbox.guest_drivers import check_storages

#: What Kata 4.1's agent answers.
KATA = ["blk", "mmioblk", "scsi", "nvdimm", "virtio-fs", "ephemeral", "local", "overlayfs", "watchable-bind"]


def details(handlers: list[str]) -> agent_pb.AgentDetails:
    return agent_pb.AgentDetails(version="4.1.0", storage_handlers=handlers)


def test_drivers_that_are_there_pass():
    check_storages(details(KATA), {"virtio-fs", "ephemeral"}, "why")


def test_a_driver_that_is_missing_is_named_with_what_there_is_and_why():
    with pytest.raises(FailedPreconditionError) as caught:
        check_storages(details(KATA), {"9p", "ephemeral"}, 'shared_fs = "virtio-9p" needs it')
    assert str(caught.value) == (
        "the guest's agent (version 4.1.0) has no storage driver 9p, it has: blk ephemeral local mmioblk nvdimm "
        'overlayfs scsi virtio-fs watchable-bind; shared_fs = "virtio-9p" needs it'
    )


@pytest.mark.parametrize("told", [None, agent_pb.AgentDetails(), details([])])
def test_an_agent_that_tells_nothing_is_asked(told: agent_pb.AgentDetails | None):
    check_storages(told, {"9p"}, "why")


def test_a_guest_s_words_stay_on_one_line():
    with pytest.raises(FailedPreconditionError) as caught:
        check_storages(agent_pb.AgentDetails(version="1\n2", storage_handlers=["a\nb\x1b["]), {"9p"}, "why")
    assert str(caught.value).isprintable()
