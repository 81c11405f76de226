"""`order-keys.json` of a region: which authorities may order an opening. Public keys by name."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from agent import shared_file
from agent.errors import ConfigError
from agent.evidence import signed
from agent.files import cannot_write, read_if_there
from agent.strict_json import fields, parse_json, text

FILE: Final = "order-keys.json"
FORMAT: Final = "inland order keys 1"
MAX_BYTES: Final = 1 << 20
KEY_BYTES: Final = 32


def trusted(folder: Path) -> dict[str, bytes]:
    """Return the authorities that a region trusts, none if there is no file.

    Raises:
        ConfigError: the file cannot be read, or is damaged.
    """
    path = folder / FILE
    data = read_if_there(path, MAX_BYTES)
    if data is None:
        return {}
    try:
        form, found = fields(parse_json(data), "format", "keys")
        if text(form) != FORMAT or not isinstance(found, dict):
            raise ValueError("is not of this version")
        return {signed.words(name, "name"): public_key(key) for name, key in found.items()}
    except ValueError as error:
        raise ConfigError(
            f"the keys of authorities are damaged: {error}", where=str(path),
            todo="put it back from a backup; no order is served meanwhile",
        ) from None  # fmt: skip


def add(folder: Path, name: str, key: bytes) -> None:
    """Trust an authority from now on.

    Raises:
        ConfigError: it has a key already, or the file cannot be used.
        DiskError: the disk has no room for it.
    """
    _change(folder, name, key)


def remove(folder: Path, name: str) -> None:
    """Trust an authority no longer.

    Raises:
        ConfigError: it is not trusted, or the file cannot be used.
        DiskError: the disk has no room for it.
    """
    _change(folder, name, None)


def public_key(value: object) -> bytes:
    """Return an Ed25519 public key that is given as base64. Raises ValueError."""
    key = signed.unpacked(value)
    try:
        Ed25519PublicKey.from_public_bytes(key)
    except (ValueError, UnsupportedAlgorithm):
        raise ValueError("not an Ed25519 public key, 32 bytes in base64") from None
    return key


def _change(folder: Path, name: str, key: bytes | None) -> None:
    path = folder / FILE
    try:
        with shared_file.held(path, wait=True):
            known = trusted(folder)
            if (name in known) == (key is not None):
                what = "has a key already" if key is not None else "is not trusted"
                todo = f"`inland station order-key {'remove' if key is not None else 'ls'}`"
                raise ConfigError(f"'{name}' {what}", where=str(path), todo=todo)
            kept = {one: value for one, value in known.items() if one != name}
            shared_file.write(path, _content(kept if key is None else {**kept, name: key}))
    except OSError as error:
        raise cannot_write(error, path) from None


def _content(known: Mapping[str, bytes]) -> bytes:
    values = {name: base64.b64encode(key).decode() for name, key in sorted(known.items())}
    return json.dumps({"format": FORMAT, "keys": values}, indent=1).encode() + b"\n"
