"""The least that seals, from proto/FORMAT.md: for vectors and the example, with fixed secrets."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, MLKEM768X25519PrivateKey, Suite
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from agent.pb.sealed_pb2 import SegmentHeader, SessionHeader, Wrap, Wraps

SUITE = Suite(KEM.MLKEM768_X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)
LOG, SESSION = bytes.fromhex("10" * 16), bytes.fromhex("5e" * 16)


def hkdf(key: bytes, info: bytes, size: int) -> bytes:
    return HKDF(hashes.SHA256(), size, salt=None, info=info).derive(key)


@dataclass(frozen=True)
class Recipient:
    """A recipient made from a fixed 96-byte private key."""

    private: bytes

    @property
    def key(self) -> MLKEM768X25519PrivateKey:
        lattice = MLKEM768PrivateKey.from_seed_bytes(self.private[:64])
        return MLKEM768X25519PrivateKey(
            lattice, X25519PrivateKey.from_private_bytes(self.private[64:])
        )

    @property
    def public(self) -> bytes:
        lattice = MLKEM768PrivateKey.from_seed_bytes(self.private[:64]).public_key()
        curve = X25519PrivateKey.from_private_bytes(self.private[64:]).public_key()
        return lattice.public_bytes_raw() + curve.public_bytes_raw()

    @property
    def kid(self) -> bytes:
        return hashlib.sha256(self.public).digest()[:8]


REGION, OWNER = Recipient(bytes(range(96))), Recipient(bytes(range(100, 196)))


def framed(magic: bytes, header: bytes) -> bytes:
    return magic + len(header).to_bytes(2, "big") + header


def seal_session(
    secret: bytes, wraps: list[list[Recipient]], *, aead: int = 1, recipients: int = 1
) -> bytes:
    """Return a sealed session; each wrap lists its recipients, the innermost first."""
    header = SessionHeader(
        kem=1,
        aead=aead,
        region="urn:inland:region:cn",
        vehicle="car-00000001",
        log=LOG,
        index=2,
        session=SESSION,
        epoch=1,
        recipients=recipients,
        commitment=hkdf(secret, b"inland/session-commitment/v1", 32),
    )
    prefix = framed(b"iSE1", header.SerializeToString())
    message = Wraps()
    for group in wraps:
        kids = [recipient.kid for recipient in group]
        info = b"inland/session/v1\0" + hashlib.sha256(prefix).digest() + b"".join(kids)
        sealed = secret
        for recipient in group:
            sealed = SUITE.encrypt(sealed, recipient.key.public_key(), info=info)
        message.wrap.append(Wrap(kid=kids, sealed=sealed))
    return prefix + message.SerializeToString()


def seal_segment(
    secret: bytes, payload: bytes, *, index: int = 3, step: int = 0, aead: int = 1, lane: int = 2
) -> bytes:
    """Return a sealed segment of the session above."""
    header = SegmentHeader(
        log=LOG, index=index, session=SESSION, step=step, epoch=1, lane=lane, policy=b"policy-8"
    )
    prefix = framed(b"iSG1", header.SerializeToString())
    chain = secret
    for _ in range(step):
        chain = hkdf(chain, b"inland/next/v1", 32)
    derived = hkdf(chain, b"inland/segment/v1" + hashlib.sha256(prefix).digest(), 64)
    cipher = {1: AESGCM, 2: ChaCha20Poly1305}[aead](derived[:32])
    return prefix + derived[32:] + cipher.encrypt(bytes(12), payload, prefix + derived[32:])
