"""Guest addresses: random, claimed in the kernel, never shared."""

from __future__ import annotations

import errno
import itertools
from pathlib import Path

import pytest

from hypervisor.errors import HypervisorError
from hypervisor.vsock import ATTEMPTS, FIRST_CID, LAST_CID, available, claim_cid, open_vhost_vsock, random_cids


def test_the_first_free_address_is_taken():
    tried: list[int] = []

    def set_cid(fd: int, cid: int) -> None:
        tried.append(cid)
        if cid < 5:
            raise OSError(errno.EADDRINUSE, "in use")

    assert claim_cid(9, itertools.count(3), set_cid) == 5
    assert tried == [3, 4, 5]


def test_a_crowded_host_is_told_after_a_bounded_number_of_attempts():
    tried: list[int] = []

    def set_cid(fd: int, cid: int) -> None:
        tried.append(cid)
        raise OSError(errno.EADDRINUSE, "in use")

    with pytest.raises(HypervisorError, match=f"no free vsock address in {ATTEMPTS} attempts"):
        claim_cid(9, itertools.count(3), set_cid)
    assert len(tried) == ATTEMPTS


def test_another_failure_is_not_tried_again():
    def set_cid(fd: int, cid: int) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    with pytest.raises(HypervisorError, match="can't set the guest's vsock address: Operation not permitted"):
        claim_cid(9, itertools.count(3), set_cid)


def test_random_addresses_are_a_guest_s():
    assert all(FIRST_CID <= cid <= LAST_CID for cid in itertools.islice(random_cids(), 1000))


def test_a_host_without_vsock_is_told_what_to_do(tmp_path: Path):
    assert not available(tmp_path / "vhost-vsock")
    with pytest.raises(HypervisorError, match="load vhost_vsock or use agent_channel virtio-serial"):
        open_vhost_vsock(tmp_path / "vhost-vsock")


def test_a_device_that_is_no_vsock_is_refused():
    with pytest.raises(HypervisorError, match="can't set the guest's vsock address: Inappropriate ioctl"):
        open_vhost_vsock(Path("/dev/zero"))
