"""Network addresses as the protocol writes them, and as the kernel takes them. Pure."""

from __future__ import annotations

import socket

from guest.agent.errors import InvalidArgumentError

_LENGTHS = {socket.AF_INET: 32, socket.AF_INET6: 128}


def family_of(text: str) -> socket.AddressFamily:
    """IPv6 if there is a colon in it."""
    return socket.AF_INET6 if ":" in text else socket.AF_INET


def packed(text: str) -> bytes:
    """The address in network order; raises `InvalidArgumentError`."""
    try:
        return socket.inet_pton(family_of(text), text)
    except (OSError, ValueError) as error:
        raise InvalidArgumentError(f"address {text[:60]!r} is malformed") from error


def unpacked(value: bytes) -> str:
    """The address as text; empty for no address."""
    families = {4: socket.AF_INET, 16: socket.AF_INET6}
    return socket.inet_ntop(families[len(value)], value) if len(value) in families else ""


def prefix_length(mask: str, family: socket.AddressFamily) -> int:
    """The length of a prefix written as `24` or, for IPv4, as `255.255.255.0`; empty means a single address."""
    limit = _LENGTHS[family]
    if not mask:
        return limit
    if mask.isascii() and mask.isdigit() and len(mask) < 4 and int(mask) <= limit:
        return int(mask)
    bits = int.from_bytes(packed(mask), "big") if family == socket.AF_INET and "." in mask else -1
    length = bin(bits).count("1") if bits >= 0 else -1
    if length < 0 or bits != (0xFFFFFFFF << (32 - length)) & 0xFFFFFFFF:
        raise InvalidArgumentError(f"mask {mask[:60]!r} is malformed")
    return length


def network(text: str) -> tuple[bytes, int]:
    """Address and prefix length of `10.0.0.0/24` or of a single address."""
    address, slash, mask = text.partition("/")
    return packed(address), prefix_length(mask if slash else "", family_of(address))


def hardware_address(text: str) -> bytes:
    """The six bytes of `02:00:ca:fe:00:01`; raises `InvalidArgumentError`."""
    parts = text.split(":")
    try:
        value = bytes(int(part, 16) for part in parts if len(part) == 2)
    except ValueError:
        value = b""
    if len(parts) != 6 or len(value) != 6:
        raise InvalidArgumentError(f"hardware address {text[:60]!r} is malformed")
    return value


def hardware_text(value: bytes) -> str:
    """A hardware address as text."""
    return value.hex(":")
