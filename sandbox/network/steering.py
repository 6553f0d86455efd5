"""One listener for all TCP ports of a namespace's loopback, by a BPF program of the kind `sk_lookup` (Linux 5.9).

The kernel asks the program, attached to the namespace, which socket takes a new connection; it names the listener for
those to 127.0.0.0/8 and ::1, whatever their port, and has no opinion of others. The accepted socket's own port is the
one that was asked for. Nothing has to be undone: the attachment goes with the last descriptor of its link, which this
process has. See the kernel's `bpf/prog_sk_lookup.rst` and bpf(2).
"""

from __future__ import annotations

import ctypes
import os
import socket
import struct

from sandbox.network.entering import within

#: How many connections may wait to be accepted.
BACKLOG = 16
#: The number of bpf(2), by machine; the program below is for those that are little-endian.
_SYSCALLS = {"x86_64": 321, "aarch64": 280}
_MAP_CREATE, _MAP_UPDATE, _PROG_LOAD, _LINK_CREATE = 0, 2, 5, 28
_SOCKMAP, _SK_LOOKUP_PROGRAM, _SK_LOOKUP_ATTACH = 15, 30, 36
_ATTRIBUTES_SIZE = 128
_IP_FREEBIND = 15


class Listener:
    """Accepts for the whole loopback until it is closed."""

    def __init__(self, sock: socket.socket, link: int) -> None:
        self.socket = sock
        self._link = link

    def close(self) -> None:
        """Let go of the loopback; once."""
        os.close(self._link)
        self.socket.close()


def listen(namespace: int) -> Listener:
    """Take the loopback of the namespace behind a descriptor; raises `OSError` where the kernel can't."""
    sock = within(namespace, _open)
    try:
        return Listener(sock, _attach(namespace, sock.fileno()))
    except BaseException:
        sock.close()
        raise


def _open() -> socket.socket:
    """A listening socket of both families, of IPv4 alone where there is no other; its own port means nothing."""
    try:
        sock, address = socket.socket(socket.AF_INET6, socket.SOCK_STREAM), "::ffff:127.0.0.1"
    except OSError:
        sock, address = socket.socket(socket.AF_INET, socket.SOCK_STREAM), "127.0.0.1"
    try:
        if sock.family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        # The loopback may not be up yet.
        sock.setsockopt(socket.IPPROTO_IP, _IP_FREEBIND, 1)
        sock.bind((address, 0))
        sock.listen(BACKLOG)
        sock.setblocking(False)
    except BaseException:
        sock.close()
        raise
    return sock


def _attach(namespace: int, listener: int) -> int:
    """Have the program name the socket `listener`; returns the link."""
    sockets = _bpf(_MAP_CREATE, struct.pack("=4I", _SOCKMAP, 4, 8, 1))
    try:
        key, value = ctypes.c_uint32(0), ctypes.c_uint64(listener)
        _bpf(_MAP_UPDATE, struct.pack("=IxxxxQQQ", sockets, ctypes.addressof(key), ctypes.addressof(value), 0))
        program = _load(sockets)
    finally:
        os.close(sockets)
    try:
        return _bpf(_LINK_CREATE, struct.pack("=4I", program, namespace, _SK_LOOKUP_ATTACH, 0))
    finally:
        os.close(program)


def _load(sockets: int) -> int:
    text, license_ = ctypes.create_string_buffer(program(sockets)), ctypes.create_string_buffer(b"GPL")
    head = struct.pack("=IIQQ", _SK_LOOKUP_PROGRAM, len(text) // 8, ctypes.addressof(text), ctypes.addressof(license_))
    return _bpf(_PROG_LOAD, head.ljust(68, b"\0") + struct.pack("=I", _SK_LOOKUP_ATTACH))


def _bpf(command: int, attributes: bytes) -> int:
    number = _SYSCALLS.get(os.uname().machine)
    if number is None:
        raise OSError(f"not made for machines of type {os.uname().machine}")
    libc = ctypes.CDLL(None, use_errno=True)
    buffer = ctypes.create_string_buffer(attributes, _ATTRIBUTES_SIZE)
    result: int = libc.syscall(number, command, buffer, _ATTRIBUTES_SIZE)
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, f"bpf: {os.strerror(error)}")
    return result


#: Opcodes of BPF's instruction set (RFC 9669); W is a word of 32 bits.
_LOAD_W, _STORE_W, _LOAD_MAP = 0x61, 0x62, 0x18
_MOVE, _SET, _ADD, _AND = 0xBF, 0xB7, 0x07, 0x57
_JUMP, _IF_SAME, _UNLESS_SAME, _CALL, _EXIT = 0x05, 0x15, 0x55, 0x85, 0x95
_LOOK_UP, _RELEASE, _ASSIGN = 1, 86, 124
#: Offsets in `struct bpf_sk_lookup`; addresses are in the network's order, so a low byte comes first.
_FAMILY, _PROTOCOL, _LOCAL_IP4, _LOCAL_IP6 = 8, 12, 40, 44
#: Where a jump leads that is to leave the choice to the kernel.
_PASS = -1

Instruction = tuple[int, int, int, int, int]


def program(sockets: int) -> bytes:
    """The program; `sockets` is a descriptor of the map whose entry 0 is the listener."""
    assign: list[Instruction] = [
        (_STORE_W, 10, 0, -4, 0),
        (_LOAD_MAP, 1, 1, 0, sockets),
        (0, 0, 0, 0, 0),
        (_MOVE, 2, 10, 0, 0),
        (_ADD, 2, 0, 0, -4),
        (_CALL, 0, 0, 0, _LOOK_UP),
        (_IF_SAME, 0, 0, _PASS, 0),
        (_MOVE, 7, 0, 0, 0),
        (_MOVE, 1, 6, 0, 0),
        (_MOVE, 2, 7, 0, 0),
        (_SET, 3, 0, 0, 0),
        (_CALL, 0, 0, 0, _ASSIGN),
        (_MOVE, 1, 7, 0, 0),
        (_CALL, 0, 0, 0, _RELEASE),
    ]
    is_ipv6 = [each for word in range(4) for each in _has_word(_LOCAL_IP6 + 4 * word, 0x01000000 * (word == 3))]
    is_ipv4: list[Instruction] = [
        (_LOAD_W, 2, 1, _LOCAL_IP4, 0),
        (_AND, 2, 0, 0, 0xFF),
        (_UNLESS_SAME, 2, 0, _PASS, 127),
        (_JUMP, 0, 0, len(is_ipv6), 0),
    ]
    head: list[Instruction] = [
        (_MOVE, 6, 1, 0, 0),
        *_has_word(_PROTOCOL, socket.IPPROTO_TCP),
        (_LOAD_W, 2, 1, _FAMILY, 0),
        (_UNLESS_SAME, 2, 0, len(is_ipv4), socket.AF_INET),
    ]
    return _assembled([*head, *is_ipv4, *is_ipv6, *assign])


def _has_word(offset: int, value: int) -> list[Instruction]:
    """Pass unless that word of the context, which is in register 1, is `value`."""
    return [(_LOAD_W, 2, 1, offset, 0), (_UNLESS_SAME, 2, 0, _PASS, value)]


def _assembled(instructions: list[Instruction]) -> bytes:
    """The instructions, with an end that says SK_PASS."""
    code = b""
    for place, (opcode, target, source, offset, value) in enumerate(instructions):
        jump = len(instructions) - place - 1 if offset == _PASS and opcode & 7 == 5 else offset
        code += struct.pack("=BBhi", opcode, target | source << 4, jump, value)
    return code + struct.pack("=BBhi", _SET, 0, 0, 1) + struct.pack("=BBhi", _EXIT, 0, 0, 0)
