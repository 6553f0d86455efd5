"""The guest kernel's command line."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hypervisor.errors import HypervisorError
from hypervisor.kernel_params import COMMAND_LINE_SIZE, kernel_command_line
from hypervisor.vm import VmSpec
from tests.unit.hypervisor.test_command_line import SPEC


def words(spec: VmSpec) -> list[str]:
    return kernel_command_line(spec).split()


def test_the_pod_s_parameters_come_last_so_they_win():
    assert words(replace(SPEC, kernel_params=("panic=5", "b")))[-2:] == ["panic=5", "b"]


def test_a_guest_of_ours_finds_its_root_by_itself():
    assert not any(word.startswith("root") for word in words(SPEC))


@pytest.mark.parametrize(
    ("image_type", "expected"),
    [
        ("ext4", "root=/dev/vda1 rootflags=data=ordered,errors=remount-ro ro rootfstype=ext4"),
        ("xfs", "root=/dev/vda1 ro rootfstype=xfs"),
        ("erofs", "root=/dev/vda1 ro rootfstype=erofs"),
    ],
)
def test_a_stock_image_is_mounted_as_root(image_type: str, expected: str):
    assert expected in kernel_command_line(replace(SPEC, initrd=None, image_type=image_type))


def test_a_kernel_is_quiet_unless_debugged():
    assert "quiet" in words(SPEC)
    assert "quiet" not in words(replace(SPEC, debug=True))


def test_processors_are_counted_with_room_for_later():
    assert "nr_cpus=8" in words(replace(SPEC, max_vcpus=8))
    assert "nr_cpus=2" in words(replace(SPEC, vcpus=2))


def test_what_the_kernel_would_cut_off_is_refused():
    room = COMMAND_LINE_SIZE - 1 - len(kernel_command_line(SPEC)) - 1
    assert len(kernel_command_line(replace(SPEC, kernel_params=("x" * room,)))) == COMMAND_LINE_SIZE - 1
    with pytest.raises(HypervisorError, match="kernel parameters of 2048 bytes: the kernel takes 2047"):
        kernel_command_line(replace(SPEC, kernel_params=("x" * (room + 1),)))
