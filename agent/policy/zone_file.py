"""Sealed zones: a list of protected places is itself protected, on the disk and on the way.

Bytes: "iZN1" | nonce (12) | AES-256-GCM(zstd(ZoneTable)), tag last. The associated data are the
magic and the region's URI, so that zones of one region do not open in another that was given the
same key. The key is the region's `zones.key`, which each of its cars has: who takes a car apart
can read the zones of its region. The nonce is random: a region seals a handful of files a year.

Opened zones live in memory alone. What cannot be opened is an error here; whoever gets it must
hold every place for protected.

Pure.
"""

from __future__ import annotations

from typing import Final

import zstandard
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from agent.errors import PolicyError, SealError
from agent.policy.clauses import MAX_ZONES_BYTES
from agent.policy.zones import Zones, parse_zones

MAGIC: Final = b"iZN1"
KEY_BYTES: Final = 32
NONCE_BYTES: Final = 12
TAG_BYTES: Final = 16
LEVEL: Final = 19  # of zstd: sealed once, carried to every car
MAX_PLAIN_BYTES: Final = 1 << 20  # what 160 KiB may grow to when it is unpacked


def seal_zones(plain: bytes, key: bytes, nonce: bytes, region: str) -> bytes:
    """Return sealed zones.

    Args:
        plain: what `pack_zones` returned.
        key: the region's zones key, 32 bytes.
        nonce: 12 random bytes, never used before with this key.
        region: urn:inland:region:<id>.

    Raises:
        PolicyError: they do not fit into a policy.
        ValueError: a key or nonce of another length.
    """
    if len(key) != KEY_BYTES or len(nonce) != NONCE_BYTES:
        raise ValueError(f"a key of {len(key)} and a nonce of {len(nonce)} bytes")
    packed = zstandard.ZstdCompressor(level=LEVEL, write_content_size=True).compress(plain)
    sealed = MAGIC + nonce + AESGCM(key).encrypt(nonce, packed, _context(region))
    if len(sealed) > MAX_ZONES_BYTES or len(plain) > MAX_PLAIN_BYTES:
        raise PolicyError(
            f"{len(sealed)} bytes of sealed zones, at most {MAX_ZONES_BYTES}", where="zones",
            todo="use fewer vertices: 10 m are enough, the margin is larger",
        )  # fmt: skip
    return sealed


def open_zones(sealed: bytes, key: bytes, region: str) -> Zones:
    """Return the zones of a sealed file.

    Args:
        sealed: what `seal_zones` returned.
        key: the region's zones key, 32 bytes.
        region: urn:inland:region:<id> of the car's region card.

    Raises:
        SealError: altered, for another region or key, or not sealed zones at all.
    """
    if not is_sealed(sealed):
        raise _refusal("are not sealed zones")
    if len(key) != KEY_BYTES:
        raise _refusal(f"need a key of {KEY_BYTES} bytes, not {len(key)}")
    nonce = sealed[len(MAGIC) : len(MAGIC) + NONCE_BYTES]
    try:
        packed = AESGCM(key).decrypt(nonce, sealed[len(MAGIC) + NONCE_BYTES :], _context(region))
        size = zstandard.frame_content_size(packed)  # -1: not said
        if not 0 < size <= MAX_PLAIN_BYTES:
            raise _refusal(f"hold {size} bytes")
        return parse_zones(zstandard.ZstdDecompressor().decompress(packed))
    except InvalidTag:
        raise _refusal("are altered, or for another region") from None
    except (zstandard.ZstdError, PolicyError) as error:
        # Sealed by somebody with the key, and still nothing that this version can use.
        raise _refusal(f"cannot be used: {error}") from None


def is_sealed(data: bytes) -> bool:
    """Return whether bytes look like sealed zones of a size that fits."""
    least = len(MAGIC) + NONCE_BYTES + TAG_BYTES
    return data.startswith(MAGIC) and least <= len(data) <= MAX_ZONES_BYTES


def _context(region: str) -> bytes:
    return MAGIC + region.encode()


def _refusal(what: str) -> SealError:
    return SealError(what, where="zones", todo="seal them with the region's zones.key")
