"""The region card: who the region is, put in at the factory on a read-only place.

It is the root of the promise that data goes home and nowhere else: broker name and port, address
prefixes, the region's issuing CA and its pins, the keys that sign receipts and checkpoints, the key
that segments are sealed to, the root of its policy repository. A policy may narrow it, never widen
or change it.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import json
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from agent.errors import ConfigError
from agent.files import read_text, why_unreadable

URI_PREFIX: Final = "urn:inland:region:"
KEYS: Final = (
    "region", "host", "port", "prefixes", "issuing_ca", "spki",
    "receipt_keys", "cosign_keys", "recipient_key",
)  # fmt: skip
OPTIONAL: Final = ("policy_root",)
MAX_ROOT_BYTES: Final = 64 * 1024
MAX_BYTES: Final = 1 << 20  # of region.toml

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class RegionCard:
    """One region, as the car knows it.

    Attributes:
        region: urn:inland:region:<id>.
        host: name in the broker's certificate and in DNS; never used to widen the prefixes.
        port: TCP port of the broker.
        prefixes: addresses outside these are not dialled.
        issuing_ca: PEM certificates of the region's issuing CA, current and next.
        spki: SHA-256 of the DER SubjectPublicKeyInfo of each pinned issuing CA, 32 bytes each.
        receipt_keys: Ed25519 public keys that may sign receipts, 32 bytes each.
        cosign_keys: C2SP verifier keys (name+hex+base64) that may co-sign checkpoints.
        recipient_key: public key that the region's copy is sealed to (MLKEM768-X25519, 1216 bytes).
        policy_root: TUF root metadata, version 1, that the signatures of every policy lead back to;
            empty: a bench card, whose car takes a policy file from whoever sits at it.
    """

    region: str
    host: str
    port: int
    prefixes: tuple[Network, ...]
    issuing_ca: tuple[str, ...]
    spki: tuple[bytes, ...]
    receipt_keys: tuple[bytes, ...]
    cosign_keys: tuple[str, ...]
    recipient_key: bytes
    policy_root: bytes = b""


def load_region_card(path: Path) -> RegionCard:
    """Read region.toml.

    Raises:
        ConfigError: the card is missing or unreadable, or a key is missing, unknown or malformed.
    """
    try:
        text = read_text(path, MAX_BYTES)
    except FileNotFoundError:
        raise ConfigError(
            "no region card", where=str(path),
            todo="`inland station enroll` writes one into the vehicle's bundle",
        ) from None  # fmt: skip
    except (OSError, UnicodeDecodeError) as error:
        why = why_unreadable(error)
        raise ConfigError(f"cannot read the region card: {why}", where=str(path)) from None
    return parse_region_card(text, where=str(path))


def parse_region_card(text: str, *, where: str) -> RegionCard:
    """Return the card that a text holds.

    Raises:
        ConfigError: see `load_region_card`.
    """
    try:
        card = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"not TOML: {error}", where=where) from None
    except RecursionError:
        raise ConfigError("not TOML: nested too deeply", where=where) from None
    for key in KEYS:
        if key not in card:
            raise ConfigError(f"key '{key}' is missing", where=where)
    for key in card:
        if key not in KEYS + OPTIONAL:
            known = ", ".join(KEYS + OPTIONAL)
            raise ConfigError(f"unknown key '{key}'", where=where, todo=f"keys are {known}")
    try:
        return _card(card)
    except (ValueError, TypeError, AttributeError, binascii.Error) as error:
        raise ConfigError(f"malformed region card: {error}", where=where) from None


def _card(card: dict[str, Any]) -> RegionCard:
    region = str(card["region"])
    if not region.startswith(URI_PREFIX) or len(region) == len(URI_PREFIX):
        raise ValueError(f"region must be {URI_PREFIX}<id>, not '{region}'")
    return RegionCard(
        region=region,
        host=str(card["host"]),
        port=_port(card["port"]),
        prefixes=tuple(ipaddress.ip_network(prefix) for prefix in card["prefixes"]),
        issuing_ca=tuple(str(pem) for pem in card["issuing_ca"]),
        spki=tuple(_key(pin, "spki", 32) for pin in card["spki"]),
        receipt_keys=tuple(_key(key, "receipt_keys", 32) for key in card["receipt_keys"]),
        cosign_keys=tuple(str(key) for key in card["cosign_keys"]),
        recipient_key=_key(card["recipient_key"], "recipient_key", 1216),
        policy_root=_root(card["policy_root"]) if "policy_root" in card else b"",
    )


def _root(text: object) -> bytes:
    """Return TUF root metadata as bytes; what is in it is checked when a policy is installed."""
    if not isinstance(text, str) or not 0 < len(text) <= MAX_ROOT_BYTES:
        raise ValueError(f"policy_root must be a text of up to {MAX_ROOT_BYTES} characters")
    if not isinstance(json.loads(text), dict):
        raise ValueError("policy_root is no TUF metadata")
    return text.encode("utf-8")


def _port(port: object) -> int:
    if not isinstance(port, int) or not 0 < port < 65536:
        raise ValueError(f"port must be 1 to 65535, not {port}")
    return port


def _key(text: str, name: str, size: int) -> bytes:
    key = base64.b64decode(text, validate=True)
    if len(key) != size:
        raise ValueError(f"{name} must be {size} bytes in base64, not {len(key)}")
    return key
