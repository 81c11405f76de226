"""Keys that the vault uses: recipient keys (public in the car) and the ledger's signing key.

- A recipient key is a hybrid of two parts, because `cryptography` has no serialisation for the
  pair: public = ML-KEM-768 encapsulation key (1184) | X25519 public key (32), private = ML-KEM-768
  seed (64) | X25519 private key (32). Both parts must be broken to break the pair.
- kid = first 8 bytes of SHA-256 of the public bytes. It names a key, it proves nothing.
- The ledger key is Ed25519, PKCS8 PEM without a passphrase, in a file that only its owner reads.
- Nothing here ever writes a key that opens data: `save_ledger_key` writes a signing key alone.

Source: draft-ietf-hpke-pq (MLKEM768-X25519), FIPS 203, RFC 7748, RFC 8032.
"""

from __future__ import annotations

import os
import stat
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
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from agent.digest import sha256
from agent.errors import ConfigError, SealError

PUBLIC_BYTES: Final = 1216
PRIVATE_BYTES: Final = 96
KID_BYTES: Final = 8
MLKEM_PUBLIC_BYTES: Final = 1184
MLKEM_SEED_BYTES: Final = 64
MAX_KEY_FILE_BYTES: Final = 16 * 1024  # a PEM Ed25519 key has 119

KEM_MLKEM768_X25519: Final = 1  # SessionHeader.kem; the only suite there is


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
            todo="it is the key of another suite; enrol again",
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
    pem = read_private_file(path, "the ledger key")
    try:
        key = load_pem_private_key(pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigError(
            "not an Ed25519 private key in PKCS8 PEM without a passphrase", where=str(path),
            todo="take ledger.key from the vehicle's bundle",
        )  # fmt: skip
    return key


def save_ledger_key(path: Path, key: Ed25519PrivateKey) -> None:
    """Write a ledger key to a new file, mode 0600, durably.

    Raises:
        ConfigError: the file exists (a key is never overwritten) or cannot be written.
    """
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    try:
        # O_EXCL and the mode at creation: at no moment is there a readable or half-replaced key.
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(pem)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise ConfigError(
            f"cannot write the ledger key: {error.strerror}", where=str(path)
        ) from None


def read_private_file(path: Path, what: str) -> bytes:
    """Return the bytes of a secret file that nobody but its owner may touch.

    The mode is read from the open file, so that it cannot be exchanged between look and read.

    Raises:
        ConfigError: missing, unreadable, not a plain file, too large, or open to group or others.
    """
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            mode = stat.S_IMODE(status.st_mode)
            if not stat.S_ISREG(status.st_mode) or status.st_size > MAX_KEY_FILE_BYTES:
                raise ConfigError(f"{what} is not a small plain file", where=str(path))
            if mode & 0o077:
                raise ConfigError(
                    f"{what} can be read by others (mode {mode:04o})", where=str(path),
                    todo=f"chmod 600 {path}",
                )  # fmt: skip
            return file.read(MAX_KEY_FILE_BYTES)
    except OSError as error:
        raise ConfigError(f"cannot read {what}: {error.strerror}", where=str(path)) from None
