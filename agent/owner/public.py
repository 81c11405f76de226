"""`owner.pub`: what a car and a region may know of an owner or driver.

One JSON object on one line: format, recipient (base64, 1216 bytes), sign (base64, Ed25519, 32
bytes), name. It opens nothing. The name is for people; ledgers and messages say its kid.
"""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from agent.errors import ConfigError, InlandError
from agent.files import read_small
from agent.strict_json import fields, parse_json, text
from agent.vault import keys

FORMAT: Final = "inland owner public key 1"
MAX_BYTES: Final = 8192  # one has 1.8 KB
MAX_NAME: Final = 64  # characters


@dataclass(frozen=True, slots=True)
class PublicKey:
    """An owner's or driver's public keys.

    Attributes:
        recipient: data is sealed to it, 1216 bytes.
        sign: checks what the person signed, Ed25519, 32 bytes.
        name: what people call it.

    Raises:
        ConfigError: a key that is none, or a name that is none.
    """

    recipient: bytes
    sign: bytes
    name: str

    def __post_init__(self) -> None:
        keys.load_public(self.recipient)
        try:
            Ed25519PublicKey.from_public_bytes(self.sign)
        except (ValueError, UnsupportedAlgorithm):
            raise ConfigError("not an Ed25519 public key", where="sign") from None
        if not is_name(self.name):
            raise ConfigError(f"not a name of 1 to {MAX_NAME} printable characters", where="name")

    @property
    def kid(self) -> str:
        """What names it: 16 hex digits."""
        return keys.kid(self.recipient).hex()

    def text(self) -> str:
        """Return the content of `owner.pub`."""
        values = {
            "format": FORMAT, "recipient": base64.b64encode(self.recipient).decode(),
            "sign": base64.b64encode(self.sign).decode(), "name": self.name,
        }  # fmt: skip
        return json.dumps(values, ensure_ascii=False) + "\n"


def is_name(name: str) -> bool:
    """Return whether a text may be a person's name in a list: printable, on one line."""
    return 0 < len(name) <= MAX_NAME and name.isprintable() and name == name.strip()


def read_public(path: Path) -> PublicKey:
    """Read an `owner.pub`.

    Raises:
        ConfigError: it cannot be read, or is none.
    """
    data = read_small(path, MAX_BYTES)
    try:
        found = parse_json(data)
        form, recipient, sign, name = fields(found, "format", "recipient", "sign", "name")
        if text(form) != FORMAT:
            raise ValueError(f"its format is {text(form)[:40]!r}")
        return PublicKey(_bytes(recipient), _bytes(sign), text(name))
    except ValueError as error:
        what = str(error)
    except InlandError as error:
        what = error.what
    raise ConfigError(
        f"not an owner's public key: {what}", where=str(path),
        todo="take the owner.pub that `inland owner keygen` has written",
    )  # fmt: skip


def _bytes(value: object) -> bytes:
    try:
        return base64.b64decode(text(value), validate=True)
    except binascii.Error:
        raise ValueError("a key that is not base64") from None
