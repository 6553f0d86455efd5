"""Contract: binds of the host reach the guest through the shared directory, under names Kata uses; the rest stays."""

from __future__ import annotations

import pytest

from sandbox.errors import InvalidArgumentError
from sandbox.oci import SpecMount
from sandbox.volumes import plan_volumes


def mount(destination: str, source: str, *options: str, kind: str = "bind") -> SpecMount:
    return SpecMount(destination=destination, type=kind, source=source, options=list(options))


def test_a_file_system_of_its_own_stays():
    tmpfs = mount("/tmp", "tmpfs", "size=64k", kind="tmpfs")
    plan = plan_volumes("c1", [tmpfs])
    assert plan.mounts == (tmpfs,)
    assert plan.entries == ()


def test_a_bind_becomes_a_share_entry_and_keeps_its_options():
    plan = plan_volumes("c1", [mount("/etc/hosts", "/var/lib/x/hosts", "rbind", "rprivate", "ro")])
    (entry,) = plan.entries
    assert entry.source == "/var/lib/x/hosts"
    assert entry.attributes == ("ro",)
    assert entry.recursive
    assert entry.name.startswith("c1-")
    assert entry.name.endswith("-hosts")
    (guest,) = plan.mounts
    assert guest.source == f"/run/kata-containers/shared/containers/{entry.name}"
    assert guest.options == ["rbind", "rprivate", "ro"]


def test_names_differ_for_destinations_of_the_same_base_and_containers():
    mounts = [mount("/a/data", "/x", "bind"), mount("/b/data", "/x", "bind")]
    names = {entry.name for container in ("c1", "c2") for entry in plan_volumes(container, mounts).entries}
    assert len(names) == 4


def test_a_plain_bind_is_not_recursive_and_an_option_makes_a_bind_too():
    plan = plan_volumes("c1", [mount("/data", "/x", "bind", kind="none")])
    assert not plan.entries[0].recursive


def test_the_pod_s_shm_is_the_guest_s():
    plan = plan_volumes("c1", [mount("/dev/shm", "/run/containerd/shm", "rbind")])
    assert plan.entries == ()
    assert plan.mounts[0].source == "/run/kata-containers/sandbox/shm"


@pytest.mark.parametrize("source", ["/dev", "/dev/null", "/proc", "/sys/fs/cgroup"])
def test_kernel_trees_mean_the_guest_s_own(source):
    plan = plan_volumes("c1", [mount("/host", source, "rbind")])
    assert plan.entries == ()
    assert plan.mounts[0].source == source


def test_a_source_that_only_looks_like_a_kernel_tree_is_shared():
    assert len(plan_volumes("c1", [mount("/host", "/device-data", "rbind")]).entries) == 1


def test_a_relative_destination_is_refused():
    with pytest.raises(InvalidArgumentError, match="'data' is not an absolute path"):
        plan_volumes("c1", [mount("data", "/x", "bind")])
