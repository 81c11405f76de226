"""The owner's private key: 32 bytes, in a file under a passphrase. Never in the car.

    seed -> HKDF-SHA256 "inland/owner/mlkem/v1" 64    ML-KEM-768 seed
                        "inland/owner/x25519/v1" 32   X25519 private key
                        "inland/owner/sign/v1" 32     Ed25519 private key

- The file is one JSON object: the seed under AES-256-GCM, its key by scrypt from the passphrase
  (n = 2^17, r = 8, p = 1: 128 MiB and some 0.5 s a guess). What else stands in it is authenticated.
- The work factors of a file are not believed: a file that asks for others is none of ours.
- Who has the seed has everything: the recovery sheet (sheet.py) is the seed, printed.

Source: RFC 7914 (scrypt), RFC 5869 (HKDF).
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from agent.errors import ConfigError, OwnerError
from agent.files import cannot_write, read_private_file, sync_folder, write_new
from agent.owner.public import PublicKey
from agent.strict_json import fields, parse_json, text
from agent.vault import keys
from agent.vault.session import hkdf

FORMAT: Final = "inland owner key 1"
SEED_BYTES: Final = 32
MIN_PASSPHRASE: Final = 8  # characters
_N, _R, _P = 2**17, 8, 1
_NONCE: Final = bytes(12)  # the key is of this file alone: its salt is new at every writing


@dataclass(frozen=True, slots=True)
class OwnerKey:
    """An owner's or driver's private key.

    Attributes:
        seed: 32 bytes; everything follows from it.
        name: what people call it.
    """

    seed: bytes = field(repr=False)
    name: str

    @property
    def private(self) -> bytes:
        """The recipient's private key, 96 bytes, as `vault.opening` takes it."""
        mlkem = hkdf(self.seed, b"inland/owner/mlkem/v1", keys.MLKEM_SEED_BYTES)
        return mlkem + hkdf(self.seed, b"inland/owner/x25519/v1", 32)

    @property
    def signing(self) -> Ed25519PrivateKey:
        """Signs the person's requests."""
        return Ed25519PrivateKey.from_private_bytes(hkdf(self.seed, b"inland/owner/sign/v1", 32))

    @property
    def public(self) -> PublicKey:
        """What others may know."""
        recipient = keys.public_of(self.private)
        return PublicKey(recipient, keys.raw_public(self.signing), self.name)


def check_passphrase(passphrase: str) -> None:
    """Raise ConfigError if a passphrase is too short to be one."""
    if len(passphrase) < MIN_PASSPHRASE:
        raise ConfigError(f"a passphrase has at least {MIN_PASSPHRASE} characters",
                          todo="four words that have nothing to do with each other do")  # fmt: skip


def save(path: Path, key: OwnerKey, passphrase: str, rng: Callable[[int], bytes]) -> None:
    """Write a new key file, mode 0600, durably.

    Raises:
        ConfigError: something has that name already, or it cannot be written.
        DiskError: the disk has no room for it.
    """
    check_passphrase(passphrase)
    salt = rng(16)
    head = {
        "format": FORMAT, "kid": key.public.kid, "name": key.name,
        "salt": base64.b64encode(salt).decode(), "n": _N, "r": _R, "p": _P,
    }  # fmt: skip
    sealed = AESGCM(_derive(passphrase, salt)).encrypt(_NONCE, key.seed, _aad(head))
    content = json.dumps(head | {"sealed": base64.b64encode(sealed).decode()}, ensure_ascii=False)
    try:
        write_new(path, content.encode() + b"\n")
        sync_folder(path.parent)
    except FileExistsError:
        raise ConfigError("is there already; a key is never overwritten", where=str(path),
                          todo="choose another folder, or move it away") from None  # fmt: skip
    except OSError as error:
        raise cannot_write(error, path, todo="choose another folder") from None


def load(path: Path, passphrase: str) -> OwnerKey:
    """Open a key file.

    Raises:
        ConfigError: it cannot be read, or is none.
        OwnerError: the passphrase is another one, or the file was altered.
    """
    data = read_private_file(path, "the owner's key")
    try:
        head, salt, sealed = _parse(data)
    except ValueError as error:
        raise ConfigError(f"not an owner's key: {error}", where=str(path)) from None
    try:
        seed = AESGCM(_derive(passphrase, salt)).decrypt(_NONCE, sealed, _aad(head))
    except InvalidTag:
        raise OwnerError(
            "the passphrase is another one, or the file was altered", where=str(path),
            todo="`inland owner recover` makes a new file from the recovery sheet",
        ) from None  # fmt: skip
    return OwnerKey(seed, text(head["name"]))


def _parse(data: bytes) -> tuple[dict[str, object], bytes, bytes]:
    found = parse_json(data)
    form, kid, name, salt, n, r, p, sealed = fields(
        found, "format", "kid", "name", "salt", "n", "r", "p", "sealed"
    )
    if text(form) != FORMAT:
        raise ValueError(f"its format is {text(form)[:40]!r}")
    if (n, r, p) != (_N, _R, _P):
        raise ValueError("its work factors are not ours")
    head = {"format": form, "kid": text(kid), "name": text(name), "salt": text(salt),
            "n": n, "r": r, "p": p}  # fmt: skip
    try:
        return (
            head,
            base64.b64decode(salt, validate=True),
            base64.b64decode(text(sealed), validate=True),
        )
    except binascii.Error:
        raise ValueError("a part of it is not base64") from None


def _derive(passphrase: str, salt: bytes) -> bytes:
    return Scrypt(salt=salt, length=32, n=_N, r=_R, p=_P).derive(passphrase.encode())


def _aad(head: dict[str, object]) -> bytes:
    return json.dumps(head, sort_keys=True).encode()
