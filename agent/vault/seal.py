"""Sealing: the session secret to its recipients, and a segment with the next key of the chain.

Bytes (FORMAT.md):
    sealed session   "iSE1" | u16 len | SessionHeader | Wraps
    sealed segment   "iSG1" | u16 len | SegmentHeader | commitment (32) | ciphertext | tag (16)

- Headers are authenticated as the bytes that are stored; nobody re-serialises them to check.
- The car holds public keys only. What is sealed here cannot be opened here.
- The chain is stepped before encryption; a seal that fails afterwards has burnt its step.

Opening is in opening.py, which the daemon never imports.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305

from agent.pb import sealed_pb2
from agent.vault import keys
from agent.vault.session import (
    AES_256_GCM,
    CHACHA20_POLY1305,
    NONCE,
    SEGMENT_MAGIC,
    SESSION_MAGIC,
    Session,
    head,
    segment_secret,
    session_commitment,
    wrap_info,
)

# Which keys open which recipient set: one inner tuple a wrap; its keys must all act together.
_R, _O, _D = "region", "owner", "driver"
WRAPS: Final[dict[int, tuple[tuple[str, ...], ...]]] = {
    sealed_pb2.REGION: ((_R,),),
    sealed_pb2.OWNER: ((_O,),),
    sealed_pb2.SHARED: ((_R,), (_O,)),
    sealed_pb2.BOTH: ((_R, _O),),
    sealed_pb2.DRIVER: ((_D,),),
}


def opens_alone(name: str) -> frozenset[int]:
    """Return the recipient sets that one of the keys of WRAPS opens without another."""
    return frozenset(one for one, wraps in WRAPS.items() if (name,) in wraps)


def wraps_for(
    recipients: int, *, region_key: bytes, owner_key: bytes | None, driver_key: bytes | None = None
) -> tuple[tuple[bytes, ...], ...] | None:
    """Return the public keys of each wrap of a recipient set; None if one is not provisioned.

    There is no fallback: a set that needs an owner who is not enrolled is not narrowed to the
    region, it keeps nothing; nor is what is for whoever drives given to the owner.

    Raises:
        ValueError: not a recipient set.
    """
    if recipients not in WRAPS:
        raise ValueError(f"recipients {recipients}")
    have = {_R: region_key, _O: owner_key, _D: driver_key}
    wraps = []
    for names in WRAPS[recipients]:
        wrap = [key for name in names if (key := have[name]) is not None]
        if len(wrap) < len(names):
            return None
        wraps.append(tuple(wrap))
    return tuple(wraps)


def seal_session(
    header: sealed_pb2.SessionHeader, secret: bytes, wraps: Sequence[Sequence[bytes]]
) -> bytes:
    """Return the sealed session: the secret, once for each wrap.

    Args:
        header: complete but for `kem` and `commitment`, which are set here.
        secret: S, 32 bytes.
        wraps: recipients' public keys; several in one wrap are nested, the first innermost.

    Raises:
        ConfigError: a public key is not of the suite.
    """
    header.kem = keys.KEM_MLKEM768_X25519
    # Every recipient checks this, so that the car cannot give the region one secret and the owner
    # another.
    header.commitment = session_commitment(secret)
    prefix = head(SESSION_MAGIC, header.SerializeToString(deterministic=True))
    sealed = sealed_pb2.Wraps()
    for publics in wraps:
        kids = tuple(keys.kid(public) for public in publics)
        # Base mode does not say who sealed: the ledger entry and its signed checkpoint do.
        info, inner = wrap_info(prefix, kids), secret
        for public in publics:
            inner = keys.hpke_suite().encrypt(inner, keys.load_public(public), info=info)
        sealed.wrap.add(kid=kids, sealed=inner)
    return prefix + sealed.SerializeToString(deterministic=True)


def seal_segment(session: Session, header: sealed_pb2.SegmentHeader, payload: bytes) -> bytes:
    """Return the sealed segment; takes one step of the session, whatever happens next.

    Args:
        session: whose chain the key comes from.
        header: complete but for `session` and `step`, which are set here.
        payload: SegmentPayload bytes.
    """
    # Stepped first: if anything below or after fails, this key is gone and the next seal gets
    # another one, so no key ever meets two payloads.
    step, chain = session.take()
    header.session, header.step = session.session, step
    segment_head = head(SEGMENT_MAGIC, header.SerializeToString(deterministic=True))
    secret = segment_secret(chain, segment_head)
    # GCM and Poly1305 do not commit to their key; the stored commitment does, so nobody can be
    # shown another plaintext under the same bytes. It is public and derived beside the key.
    aad = segment_head + secret.commitment
    return aad + cipher(session.aead, secret.key).encrypt(NONCE, payload, aad)


def cipher(aead: int, key: bytes) -> AESGCM | ChaCha20Poly1305:
    """Return the AEAD of a session for one key.

    Raises:
        ValueError: an id that is neither 1 nor 2; there is no default to fall back to.
    """
    if aead == AES_256_GCM:
        return AESGCM(key)
    if aead == CHACHA20_POLY1305:
        return ChaCha20Poly1305(key)
    raise ValueError(f"AEAD {aead}")
