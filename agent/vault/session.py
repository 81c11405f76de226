"""The one-way chain of a session, and the bytes that seal and open agree on. Pure.

    chain_0     = S, 32 random bytes that live in RAM alone
    chain_{n+1} = HKDF(chain_n, "inland/next/v1")
    key | commitment = HKDF(chain_n, "inland/segment/v1" | SHA-256(head))
    head        = "iSG1" | u16 length | header

- Stepping drops the old chain value: who takes the car's memory after segment n cannot open
  segments up to n. (Python cannot overwrite memory; the value is unreachable, not wiped.)
- A step is used once. It is taken before anything is encrypted, so a seal that fails burns its
  step instead of leaving a key behind that another segment could get.
- Nothing of a session is ever persisted: a restart means a new S, so no crash can repeat a key.

It does not encrypt, wrap, or know of time. Source: RFC 5869.
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from agent.digest import sha256

SESSION_MAGIC: Final = b"iSE1"
SEGMENT_MAGIC: Final = b"iSG1"
SECRET_BYTES: Final = 32
COMMITMENT_BYTES: Final = 32
TAG_BYTES: Final = 16
HEAD_BYTES: Final = 6  # magic and u16 length before a header
AES_256_GCM: Final = 1
CHACHA20_POLY1305: Final = 2
MAX_STEP: Final = 2**32 - 1  # SegmentHeader.step is a uint32; an hour of segments is far below

# Each key encrypts exactly one message, so a fixed nonce never meets the same key twice. Anywhere
# else a constant nonce would be fatal for GCM and for Poly1305.
NONCE: Final = bytes(12)

_NEXT: Final = b"inland/next/v1"
_SEGMENT: Final = b"inland/segment/v1"
_COMMITMENT: Final = b"inland/session-commitment/v1"
_WRAP: Final = b"inland/session/v1\0"


class SegmentSecret(NamedTuple):
    """What one step of a chain gives for one header."""

    key: bytes  # 32, of the session's AEAD
    commitment: bytes  # 32, stored before the ciphertext and checked before opening


def hkdf(key: bytes, info: bytes, length: int) -> bytes:
    """Return RFC 5869 HKDF-SHA256 with an empty salt.

    No salt is right here: `key` is uniformly random (a session secret, or the output of HKDF).
    """
    return HKDF(hashes.SHA256(), length, salt=None, info=info).derive(key)


def head(magic: bytes, header: bytes) -> bytes:
    """Return magic, u16 big endian length, header: the bytes as they are stored and bound.

    Raises:
        ValueError: the header is longer than 65535 bytes.
    """
    if len(header) > 0xFFFF:
        raise ValueError(f"a header of {len(header)} bytes")
    return magic + struct.pack(">H", len(header)) + header


def split_head(magic: bytes, body: bytes) -> tuple[bytes, bytes, bytes] | None:
    """Return (head, header, rest) of a sealed body; None if it does not begin like one."""
    if len(body) < HEAD_BYTES or body[:4] != magic:
        return None
    end = HEAD_BYTES + int.from_bytes(body[4:HEAD_BYTES], "big")
    return (body[:end], body[HEAD_BYTES:end], body[end:]) if end <= len(body) else None


def wrap_info(prefix: bytes, kids: tuple[bytes, ...]) -> bytes:
    """Return the HPKE info of a wrap: binds it to its header and to all who must act together."""
    return _WRAP + sha256(prefix) + b"".join(kids)


def session_commitment(secret: bytes) -> bytes:
    """Return the 32 bytes that commit a header to a session secret without telling it."""
    return hkdf(secret, _COMMITMENT, COMMITMENT_BYTES)


def next_chain(chain: bytes) -> bytes:
    """Return the chain value after this one. There is no way back."""
    return hkdf(chain, _NEXT, SECRET_BYTES)


def segment_secret(chain: bytes, segment_head: bytes) -> SegmentSecret:
    """Return key and commitment of the segment with this head at this place of the chain.

    The header is in the derivation: two headers at one step (which only a broken car would make)
    still have different keys, so the fixed nonce stays safe.
    """
    info = _SEGMENT + sha256(segment_head)
    both = hkdf(chain, info, 32 + COMMITMENT_BYTES)
    return SegmentSecret(both[:32], both[32:])


class Session:
    """A live session of the car: the current chain value and nothing older.

    Args:
        secret: S, 32 random bytes; not kept once the first step is taken.
        session: 16 random bytes that name it.
        aead: 1 AES-256-GCM, 2 ChaCha20-Poly1305.
    """

    __slots__ = ("_chain", "aead", "session", "step")

    def __init__(self, secret: bytes, *, session: bytes, aead: int) -> None:
        if len(secret) != SECRET_BYTES:
            raise ValueError(f"a session secret of {len(secret)} bytes")
        self._chain = secret
        self.session, self.aead = session, aead
        self.step = 0  # of the next segment

    def take(self) -> tuple[int, bytes]:
        """Step the chain and return (step, chain value) of the place that was left.

        The caller holds the only copy of the value: it derives one key and lets go of it.

        Raises:
            ValueError: the step numbers are used up; a new session is needed.
        """
        if self.step > MAX_STEP:
            raise ValueError("the session has no steps left")
        step, chain = self.step, self._chain
        self._chain, self.step = next_chain(chain), step + 1
        return step, chain
