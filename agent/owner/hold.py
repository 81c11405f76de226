"""A legal hold: an authority's order that what a car has is not destroyed, signed by its region.

One JSON object: format, vehicle, reference (of the order), until_unix_s, kid, signature: Ed25519 by
a receipt key of the region card over "inland/hold/v1", a zero byte and the first four as JSON with
sorted keys and without spaces. It holds until its time is over, 180 days at most.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from agent import shared_file
from agent.errors import OwnerError
from agent.files import read_small
from agent.strict_json import fields, parse_json, text, whole
from agent.vault import keys

FILE: Final = "hold.json"
FORMAT: Final = "inland hold 1"
MAX_S: Final = 180 * 86_400
MAX_BYTES: Final = 4096
MAX_REFERENCE: Final = 200
_DOMAIN: Final = b"inland/hold/v1\0"


@dataclass(frozen=True, slots=True)
class Hold:
    """What an order says.

    Attributes:
        reference: of the order.
        until_s: it holds until then, s since 1970.
    """

    reference: str
    until_s: int


def sign(vehicle: str, reference: str, until_s: int, key: Ed25519PrivateKey) -> str:
    """Return the text of an order: at the region."""
    said = _said(vehicle, reference, until_s)
    signature = base64.b64encode(key.sign(_signed(said))).decode()
    return json.dumps(said | {"kid": keys.kid(keys.raw_public(key)).hex(), "signature": signature})


def register(
    state: Path, order: Path, *, vehicle: str, receipt_keys: Iterable[bytes], now_s: int
) -> Hold:
    """Keep an order in the car.

    Raises:
        OwnerError: it is none, not for this car, not signed by the region, over, or too long.
        ConfigError: it cannot be read.
        OSError: it cannot be kept.
    """
    data = read_small(order, MAX_BYTES)
    found = _verified(data, vehicle, receipt_keys, where=str(order))
    if not now_s < found.until_s <= now_s + MAX_S:
        raise OwnerError(f"it is over, or holds for more than {MAX_S // 86_400} days",
                         where=str(order))  # fmt: skip
    path = state / FILE
    with shared_file.held(path, wait=True):
        shared_file.write(path, data)
    return found


def standing(
    state: Path, *, vehicle: str, receipt_keys: Iterable[bytes], now_s: int
) -> Hold | None:
    """Return the order that holds now; None if there is none.

    Raises:
        OwnerError: what is kept is no order any more: nobody knows whether one holds.
    """
    path = state / FILE
    if not path.exists():
        return None
    found = _verified(read_small(path, MAX_BYTES), vehicle, receipt_keys, where=str(path))
    return found if now_s < found.until_s else None


def _verified(data: bytes, vehicle: str, receipt_keys: Iterable[bytes], *, where: str) -> Hold:
    try:
        form, whose, reference, until, kid, signature = fields(
            parse_json(data), "format", "vehicle", "reference",
            "until_unix_s", "kid", "signature",
        )  # fmt: skip
        if text(form) != FORMAT or len(text(reference)) > MAX_REFERENCE:
            raise ValueError(f"its format is {text(form)[:40]!r}, or its reference is too long")
        if not text(reference).isprintable():
            raise ValueError("its reference cannot be printed")
        if text(whose) != vehicle:
            raise OwnerError("the order is for another car", where=where)
        key = next((one for one in receipt_keys if keys.kid(one).hex() == text(kid)), None)
        if key is None:
            raise OwnerError("the order is not signed by a key of this region", where=where)
        said = _said(whose, reference, whole(until))
        Ed25519PublicKey.from_public_bytes(key).verify(
            base64.b64decode(text(signature), validate=True), _signed(said)
        )
    except ValueError as error:
        raise OwnerError(f"not an order: {error}", where=where) from None
    except InvalidSignature:
        raise OwnerError("the order was altered: its signature does not fit", where=where) from None
    return Hold(reference, until)


def _said(vehicle: str, reference: str, until_s: int) -> dict[str, Any]:
    return {"format": FORMAT, "vehicle": vehicle, "reference": reference, "until_unix_s": until_s}


def _signed(said: dict[str, Any]) -> bytes:
    return _DOMAIN + json.dumps(said, sort_keys=True, separators=(",", ":"),
                                ensure_ascii=False).encode()  # fmt: skip
