"""HPKE and HKDF for the second decoder, from their specifications and FORMAT.md alone.

Source: RFC 9180 (base mode), RFC 5869, draft-connolly-cfrg-xwing-kem (the KEM's combiner).
"""

from __future__ import annotations

import hashlib
import hmac
import struct

from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM


def extract(salt: bytes, material: bytes) -> bytes:
    return hmac.digest(salt or bytes(32), material, "sha256")


def expand(key: bytes, info: bytes, size: int) -> bytes:
    out = block = b""
    while len(out) < size:
        block = hmac.digest(key, block + info + bytes([len(out) // 32 + 1]), "sha256")
        out += block
    return out[:size]


def hkdf(key: bytes, info: bytes, size: int) -> bytes:
    return expand(extract(b"", key), info, size)


def hpke_open(sealed: bytes, private: bytes, info: bytes) -> bytes:
    """RFC 9180 base mode, single shot; KEM 0x647a, KDF 1, AEAD 2."""
    if len(sealed) <= 1136 or len(private) != 96:
        raise ValueError("size of a wrap or of a private key")
    lattice, curve = sealed[:1088], sealed[1088:1120]
    x25519 = X25519PrivateKey.from_private_bytes(private[64:])
    shared = MLKEM768PrivateKey.from_seed_bytes(private[:64]).decapsulate(lattice)
    shared += x25519.exchange(X25519PublicKey.from_public_bytes(curve)) + curve
    shared += x25519.public_key().public_bytes_raw() + rb"\.//^" + b"\\"
    suite = b"HPKE" + bytes.fromhex("647a00010002")

    def labeled(salt: bytes, label: bytes, material: bytes) -> bytes:
        return extract(salt, b"HPKE-v1" + suite + label + material)

    context = b"\0" + labeled(b"", b"psk_id_hash", b"") + labeled(b"", b"info_hash", info)
    secret = labeled(hashlib.sha3_256(shared).digest(), b"secret", b"")
    key, nonce = (
        expand(secret, struct.pack(">H", size) + b"HPKE-v1" + suite + label + context, size)
        for label, size in ((b"key", 32), (b"base_nonce", 12))
    )
    return AESGCM(key).decrypt(nonce, sealed[1120:], None)
