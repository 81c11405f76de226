"""Keys that the vault uses: recipient keys (public in the car) and the ledger's signing key.

- A recipient key is a hybrid of two parts, because `cryptography` has no serialisation for the
  pair: public = ML-KEM-768 encapsulation key (1184) | X25519 public key (32), private = ML-KEM-768
  seed (64) | X25519 private key (32). Both parts must be broken to break the pair.
- kid = first 8 bytes of SHA-256 of the public bytes. It names a key, it proves nothing.
- The ledger key is Ed25519, PKCS8 PEM without a passphrase, in a file that only its owner reads.
- Nothing here ever writes a key.

Source: draft-ietf-hpke-pq (MLKEM768-X25519), FIPS 203, RFC 7748, RFC 8032.
"""

from __future__ import annotations

import binascii
import contextlib
from pathlib import Path
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import (
    AEAD,
    KDF,
    KEM,
    MLKEM768X25519PrivateKey,
    MLKEM768X25519PublicKey,
    Suite,
)

from agent.digest import sha256
from agent.errors import ConfigError, SealError
from agent.files import read_private_file

PUBLIC_BYTES: Final = 1216
PRIVATE_BYTES: Final = 96
KID_BYTES: Final = 8
MLKEM_PUBLIC_BYTES: Final = 1184
MLKEM_SEED_BYTES: Final = 64

KEM_MLKEM768_X25519: Final = 1  # SessionHeader.kem; the only suite there is

_PEM: Final = b"-----BEGIN PRIVATE KEY-----", b"-----END PRIVATE KEY-----"
_ED25519_HEAD: Final = bytes.fromhex(
    "302e020100300506032b657004220420"
)  # RFC 8410, 7: then the key
_ED25519_BYTES: Final = 32


def hpke_suite() -> Suite:
    """Return HPKE base mode, MLKEM768-X25519, HKDF-SHA256, AES-256-GCM (SessionHeader.kem 1)."""
    return Suite(KEM.MLKEM768_X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)


def generate_recipient() -> tuple[bytes, bytes]:
    """Make a recipient key pair from the system's randomness.

    Returns:
        (private, 96 bytes; public, 1216 bytes).
    """
    mlkem, x25519 = MLKEM768PrivateKey.generate(), X25519PrivateKey.generate()
    private = mlkem.private_bytes_raw() + x25519.private_bytes_raw()
    return private, mlkem.public_key().public_bytes_raw() + x25519.public_key().public_bytes_raw()


def public_of(private: bytes) -> bytes:
    """Return the public bytes of a recipient's private bytes.

    Raises:
        SealError: not 96 bytes.
    """
    if len(private) != PRIVATE_BYTES:
        raise SealError(f"a recipient's private key has {PRIVATE_BYTES} bytes, not {len(private)}")
    mlkem = MLKEM768PrivateKey.from_seed_bytes(private[:MLKEM_SEED_BYTES])
    x25519 = X25519PrivateKey.from_private_bytes(private[MLKEM_SEED_BYTES:])
    return mlkem.public_key().public_bytes_raw() + x25519.public_key().public_bytes_raw()


def kid(public: bytes) -> bytes:
    """Return the 8 bytes that name a public key (a recipient's, or Ed25519)."""
    return sha256(public)[:KID_BYTES]


def load_public(public: bytes) -> MLKEM768X25519PublicKey:
    """Return the HPKE key of a recipient's public bytes.

    Raises:
        ConfigError: not 1216 bytes, or not a point and a matrix: the key of another suite.
    """
    if len(public) != PUBLIC_BYTES:
        raise ConfigError(
            f"a recipient's public key has {PUBLIC_BYTES} bytes, not {len(public)}",
            todo="it is the key of another suite; enroll again",
        )
    try:
        return MLKEM768X25519PublicKey(
            MLKEM768PublicKey.from_public_bytes(public[:MLKEM_PUBLIC_BYTES]),
            X25519PublicKey.from_public_bytes(public[MLKEM_PUBLIC_BYTES:]),
        )
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ConfigError(f"not a recipient's public key: {error}") from None


def load_private(private: bytes) -> MLKEM768X25519PrivateKey:
    """Return the HPKE key of a recipient's private bytes.

    Raises:
        SealError: not 96 bytes.
    """
    if len(private) != PRIVATE_BYTES:
        raise SealError(f"a recipient's private key has {PRIVATE_BYTES} bytes, not {len(private)}")
    return MLKEM768X25519PrivateKey(
        MLKEM768PrivateKey.from_seed_bytes(private[:MLKEM_SEED_BYTES]),
        X25519PrivateKey.from_private_bytes(private[MLKEM_SEED_BYTES:]),
    )


def raw_public(key: Ed25519PrivateKey | Ed25519PublicKey) -> bytes:
    """Return the 32 public bytes of an Ed25519 key."""
    public = key.public_key() if isinstance(key, Ed25519PrivateKey) else key
    return public.public_bytes_raw()


def load_ledger_key(path: Path) -> Ed25519PrivateKey:
    """Read the key that signs the ledger's checkpoints.

    Raises:
        ConfigError: missing, unreadable, open to others than its owner, or no Ed25519 key.
    """
    key = _ed25519(read_private_file(path, "the ledger key"))
    if key is None:
        raise ConfigError(
            "not an Ed25519 private key in PKCS8 PEM without a passphrase", where=str(path),
            todo="take ledger.key from the vehicle's bundle",
        )  # fmt: skip
    return key


def _ed25519(pem: bytes) -> Ed25519PrivateKey | None:
    """Return the key; None if it is none.

    The form in which everybody writes it is read here: what reads all forms of all kinds, SSH's
    among them, would stay in the daemon's memory for nothing.
    """
    lines = pem.strip().splitlines()
    if len(lines) == 3 and (lines[0], lines[2]) == _PEM:
        with contextlib.suppress(ValueError):  # binascii.Error is one
            der = binascii.a2b_base64(lines[1], strict_mode=True)
            if der.startswith(_ED25519_HEAD) and len(der) == len(_ED25519_HEAD) + _ED25519_BYTES:
                return Ed25519PrivateKey.from_private_bytes(der[len(_ED25519_HEAD) :])
    from cryptography.hazmat.primitives.serialization import (  # noqa: PLC0415 - see above
        load_pem_private_key,
    )

    try:
        key = load_pem_private_key(pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return None
    return key if isinstance(key, Ed25519PrivateKey) else None
