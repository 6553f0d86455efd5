"""SHA-256 without OpenSSL where the interpreter has its own: OpenSSL takes 2 ms to load, and each daemon a megabyte."""

from __future__ import annotations


def sha256_hex(data: bytes) -> str:
    """The digest of `data` in hexadecimal digits."""
    try:
        from _sha256 import sha256  # type: ignore[import-not-found, unused-ignore]
    except ImportError:
        from hashlib import sha256
    return str(sha256(data).hexdigest())
