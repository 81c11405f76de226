"""SHA-256, by the library that seals anyway. Pure.

`hashlib` would load the system's OpenSSL beside the one inside `cryptography`: 3 MiB that a daemon
carries for ever.
"""

from __future__ import annotations

from typing import Final

from cryptography.hazmat.primitives.hashes import SHA256, Hash

_SHA256: Final = SHA256()


def sha256(data: bytes) -> bytes:
    """Return the 32 bytes of SHA-256 of the data."""
    digest = Hash(_SHA256)
    digest.update(data)
    return digest.finalize()
