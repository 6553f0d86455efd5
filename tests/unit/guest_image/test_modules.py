"""Kernel modules: needs, order of loading, the index files, signatures."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from guest.image import elf, modules
from guest.image.modules import Module

Make = Callable[..., bytes]


def _module(name: str, *needs: str, aliases: tuple[str, ...] = ()) -> Module:
    return Module(name, f"kernel/{name}.ko", needs, aliases)


def _known(*found: Module) -> dict[str, Module]:
    return {module.name: module for module in found}


VIRTIO = _known(
    _module("virtio_pci", "virtio_pci_modern", "virtio_ring", "virtio"),
    _module("virtio_pci_modern"),
    _module("virtio", "virtio_ring"),
    _module("virtio_ring"),
    _module("virtio_blk", "virtio", "virtio_ring"),
)


def test_needs_and_aliases_are_read_from_the_module_itself(make_module: Make) -> None:
    data = make_module(depends="fuse,virtio-ring", aliases=["fs-virtiofs", "virtio:d0000001Av*"])

    module = modules.parse("kernel/fs/fuse/virtio-fs.ko", data)

    assert module == Module(
        "virtio_fs", "kernel/fs/fuse/virtio-fs.ko", ("fuse", "virtio_ring"), ("fs-virtiofs", "virtio:d0000001Av*")
    )


def test_a_module_that_needs_nothing_has_no_needs(make_module: Make) -> None:
    assert modules.parse("kernel/a.ko", make_module()).depends == ()


def test_every_module_loads_after_what_it_needs_and_once() -> None:
    order = [module.name for module in modules.load_order(VIRTIO, ["virtio-pci", "virtio_blk"])]

    assert sorted(order) == sorted(VIRTIO)
    for name in order:
        assert all(order.index(need) < order.index(name) for need in VIRTIO[name].depends)


def test_what_is_built_in_is_not_loaded() -> None:
    known = _known(_module("erofs", "libcrc32c"))

    assert [m.name for m in modules.load_order(known, ["erofs", "ext4"], frozenset({"libcrc32c", "ext4"}))] == ["erofs"]


def test_a_module_that_nobody_has_is_an_error_that_names_it() -> None:
    with pytest.raises(modules.UnknownModuleError, match="no module libcrc32c, needed by erofs"):
        modules.load_order(_known(_module("erofs", "libcrc32c")), ["erofs"])


def test_a_circle_of_needs_is_an_error() -> None:
    with pytest.raises(ValueError, match="a -> b -> a"):
        modules.load_order(_known(_module("a", "b"), _module("b", "a")), ["a"])


def test_the_dep_index_lists_all_needs_with_the_first_to_load_last() -> None:
    text = modules.dep_index(VIRTIO.values())

    lines = dict(line.split(":", 1) for line in text.splitlines())
    assert lines["kernel/virtio_blk.ko"].split() == ["kernel/virtio.ko", "kernel/virtio_ring.ko"]
    assert lines["kernel/virtio_ring.ko"] == ""
    assert set(lines) == {module.path for module in VIRTIO.values()}


def test_the_alias_index_leads_from_an_alias_to_its_module() -> None:
    text = modules.alias_index([_module("xfs", aliases=("fs-xfs",)), _module("vsock", aliases=("net-pf-40",))])

    assert text == "alias fs-xfs xfs\nalias net-pf-40 vsock\n"


def test_patterns_choose_modules_by_path() -> None:
    assert modules.matching(VIRTIO, ["kernel/virtio_pci*"]) == ["virtio_pci", "virtio_pci_modern"]


def test_builtin_names_come_from_paths() -> None:
    assert modules.builtin_names("kernel/fs/ext4/ext4.ko\nkernel/lib/crc-t10dif.ko\n") == {"ext4", "crc_t10dif"}


def test_a_signature_is_taken_off_and_nothing_else(make_module: Make) -> None:
    assert modules.unsigned(make_module(signed=True)) == make_module()
    assert modules.unsigned(make_module()) == make_module()


def test_a_malformed_signature_is_an_error() -> None:
    with pytest.raises(elf.ElfError, match="signature"):
        modules.unsigned(b"\xff" * 12 + b"~Module signature appended~\n")
