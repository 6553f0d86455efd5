"""Which connections the program takes: it is run here by an interpreter of the few instructions that it has."""

from __future__ import annotations

import socket
import struct
from ipaddress import ip_address

import pytest

from sandbox.network import steering

MAP = 7
CONTEXT, STACK, MAP_VALUE = 1 << 32, 2 << 32, 3 << 32


def lookup(address: str, protocol: int = socket.IPPROTO_TCP) -> bytes:
    """A `struct bpf_sk_lookup` (linux/bpf.h) for a connection to `address`."""
    local = ip_address(address)
    family = socket.AF_INET if local.version == 4 else socket.AF_INET6
    words = struct.pack("=QII", 0, family, protocol) + bytes(24)
    return words + (local.packed + bytes(16) if local.version == 4 else bytes(4) + local.packed) + bytes(8)


class Machine:
    """Runs a program until it exits; what it called is in `calls`."""

    def __init__(self, context: bytes, listener: int = MAP_VALUE) -> None:
        self.context = context
        self.listener = listener
        self.calls: list[int] = []
        self.registers = [0] * 11
        self.registers[1], self.registers[10] = CONTEXT, STACK

    def run(self, program: bytes) -> int:
        instructions = list(struct.iter_unpack("=BBhi", program))
        place = 0
        while True:
            opcode, registers, offset, value = instructions[place]
            target, source = registers & 15, registers >> 4
            place += 1
            if opcode == 0x95:
                return self.registers[0]
            if opcode == 0x85:
                self._call(value)
            elif opcode == 0x18:
                assert (source, value) == (1, MAP)
                place += 1
            elif opcode & 7 == 5:
                place += offset if self._jumps(opcode, target, value) else 0
            else:
                self._compute(opcode, target, source, offset, value)

    def _jumps(self, opcode: int, target: int, value: int) -> bool:
        return {0x05: True, 0x15: self.registers[target] == value, 0x55: self.registers[target] != value}[opcode]

    def _compute(self, opcode: int, target: int, source: int, offset: int, value: int) -> None:
        if opcode == 0x61:
            start = self.registers[source] - CONTEXT + offset
            self.registers[target] = struct.unpack_from("=I", self.context, start)[0]
        elif opcode == 0x62:
            assert self.registers[target] + offset == STACK - 4
        else:
            old = self.registers[target]
            self.registers[target] = {
                0xBF: self.registers[source],
                0xB7: value,
                0x07: old + value,
                0x57: old & value,
            }[opcode]

    def _call(self, function: int) -> None:
        self.calls.append(function)
        expected = {1: (2, STACK - 4), 124: (1, CONTEXT), 86: (1, MAP_VALUE)}[function]
        assert self.registers[expected[0]] == expected[1]
        self.registers[0] = self.listener if function == 1 else 0
        self.registers[1:6] = [-1] * 5


@pytest.mark.parametrize("address", ["127.0.0.1", "127.9.8.7", "::1"])
def test_tcp_to_the_loopback_is_taken(address):
    machine = Machine(lookup(address))

    assert (machine.run(steering.program(MAP)), machine.calls) == (1, [1, 124, 86])


@pytest.mark.parametrize("address", ["10.0.0.127", "128.0.0.1", "::", "::2", "fe80::1", "1::1", "::ffff:127.0.0.1"])
def test_what_is_for_elsewhere_is_left_to_the_kernel(address):
    machine = Machine(lookup(address))

    assert (machine.run(steering.program(MAP)), machine.calls) == (1, [])


def test_other_protocols_are_left_to_the_kernel():
    machine = Machine(lookup("127.0.0.1", socket.IPPROTO_UDP))

    assert (machine.run(steering.program(MAP)), machine.calls) == (1, [])


def test_nothing_is_assigned_once_the_listener_is_gone():
    machine = Machine(lookup("127.0.0.1"), listener=0)

    assert (machine.run(steering.program(MAP)), machine.calls) == (1, [1])


def test_a_machine_that_the_program_is_not_for_is_refused(monkeypatch):
    monkeypatch.setattr(steering, "_SYSCALLS", {})

    with pytest.raises(OSError, match="not made for machines of type"):
        steering._bpf(0, b"")
