"""Signed JSON: what a person or an authority asks a region for, one object in one file. Pure.

Canonical: keys sorted, no spaces, ASCII, one line feed at the end. The signature is over the domain
of its kind, then the object without `signature`: what was signed as one kind is no other.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Mapping
from typing import Any, Final

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from agent.strict_json import fields, parse_json, text, whole

MAX_BYTES: Final = 16 * 1024
MAX_WORDS: Final = 200  # characters of what people write
MAX_S: Final = (1 << 63) // 10**9  # the year 2262, as elsewhere
_SIGNATURE: Final = "signature"


def write(values: Mapping[str, Any], domain: str, key: Ed25519PrivateKey) -> bytes:
    """Return a signed object as its file has it."""
    signature = base64.b64encode(key.sign(_signed(values, domain))).decode()
    return _canonical({**values, _SIGNATURE: signature}) + b"\n"


def read(data: bytes, form: str, names: tuple[str, ...]) -> dict[str, Any]:
    """Return the values of a signed object; the signature is not checked yet.

    Args:
        data: the file.
        form: what its `format` has to say.
        names: its other keys, without `format` and `signature`.

    Raises:
        ValueError: it is none, or not canonical.
    """
    if len(data) > MAX_BYTES:
        raise ValueError(f"has more than {MAX_BYTES} bytes")
    found = parse_json(data)
    said = fields(found, "format", *names, _SIGNATURE)[0]
    if text(said) != form:
        raise ValueError(f"its format is {said[:40]!r}, not {form!r}")
    if _canonical(found) + b"\n" != data:
        raise ValueError("not in its canonical form")
    return dict(found)


def check(values: Mapping[str, Any], domain: str, public: bytes) -> None:
    """Raise ValueError if an object was not signed with a key, 32 bytes."""
    bare = {name: value for name, value in values.items() if name != _SIGNATURE}
    try:
        key = Ed25519PublicKey.from_public_bytes(public)
        key.verify(unpacked(values[_SIGNATURE]), _signed(bare, domain))
    except (InvalidSignature, UnsupportedAlgorithm):
        raise ValueError("its signature does not fit: it was altered, or is forged") from None


def expired(until_s: int, now_s: int) -> bool:
    """Return whether the time to answer is over."""
    return now_s > until_s


def unpacked(value: object) -> bytes:
    """Return the bytes of a base64 text. Raises ValueError."""
    try:
        return base64.b64decode(text(value), validate=True)
    except binascii.Error:
        raise ValueError("a part of it is not base64") from None


def words(value: object, what: str) -> str:
    """Return what somebody wrote, on one line. Raises ValueError."""
    said = text(value)
    if not 0 < len(said) <= MAX_WORDS or not said.isprintable() or said != said.strip():
        raise ValueError(f"{what}: not 1 to {MAX_WORDS} printable characters")
    return said


def hexed(value: object, size: int) -> str:
    """Return so many bytes in hex, lower case. Raises ValueError."""
    said = text(value)
    if re.fullmatch(f"[0-9a-f]{{{2 * size}}}", said) is None:
        raise ValueError(f"not {size} bytes in hex")
    return said


def second(value: object) -> int:
    """Return a Unix time in s. Raises ValueError."""
    if (found := whole(value)) > MAX_S:
        raise ValueError("a time that never comes")
    return found


def _signed(values: Mapping[str, Any], domain: str) -> bytes:
    return f"{domain}\n".encode() + _canonical(values)


def _canonical(values: Mapping[str, Any]) -> bytes:
    return json.dumps(values, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()
