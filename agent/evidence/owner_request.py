"""What an owner or driver asks the region for: signed at home, served once. Pure.

The region has never met the person. What it goes by is the car's ledger: the entry of the
enrollment, which took somebody in the car, names the kid and the key that checks the signature.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from agent.digest import sha256
from agent.evidence import signed
from agent.evidence.categories import KNOWN
from agent.strict_json import listed, text, whole

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

FORMAT: Final = "inland request 1"
DOMAIN: Final = "inland/request/v1"
ID_BYTES: Final = 16
_NAMES: Final = (
    "id", "region", "vehicle", "from_ns", "to_ns", "categories", "purpose", "expires_s", "kid",
    "sign",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class OwnerRequest:
    """What somebody wants, for what, and until when.

    Attributes:
        id: 16 random bytes, hex: a request is served once.
        region: urn:inland:region:<id>; no other serves it.
        vehicle: pseudonym.
        from_ns: first moment, ns since the Unix epoch; None: from the beginning.
        to_ns: last moment, inclusive; None: to the end.
        categories: of data; empty: all.
        purpose: in the person's words; it goes into the region's ledger of openings.
        expires_s: Unix time after which it is not served any more.
        kid: of the recipient key, hex.
        sign: Ed25519 public key that checks it, 32 bytes.
    """

    id: str
    region: str
    vehicle: str
    from_ns: int | None
    to_ns: int | None
    categories: tuple[str, ...]
    purpose: str
    expires_s: int
    kid: str
    sign: bytes

    @property
    def sign_hash(self) -> bytes:
        """What the entry of the enrollment names."""
        return sha256(self.sign)


def write(request: OwnerRequest, key: Ed25519PrivateKey) -> bytes:
    """Return the file of a request.

    Raises:
        ValueError: it cannot be one, e.g. a purpose of several lines.
    """
    values: dict[str, Any] = {
        "format": FORMAT, "id": request.id, "region": request.region, "vehicle": request.vehicle,
        "from_ns": request.from_ns, "to_ns": request.to_ns,
        "categories": list(request.categories), "purpose": request.purpose,
        "expires_s": request.expires_s, "kid": request.kid,
        "sign": base64.b64encode(request.sign).decode(),
    }  # fmt: skip
    data = signed.write(values, DOMAIN, key)
    read(data)
    return data


def read(data: bytes) -> OwnerRequest:
    """Return a request that was signed with the key that it names.

    Raises:
        ValueError: it is none, or was altered.
    """
    found = signed.read(data, FORMAT, _NAMES)
    request = OwnerRequest(
        signed.hexed(found["id"], ID_BYTES), signed.words(found["region"], "region"),
        signed.words(found["vehicle"], "vehicle"), _moment(found["from_ns"]),
        _moment(found["to_ns"]), tuple(map(text, listed(found["categories"]))),
        signed.words(found["purpose"], "purpose"), signed.second(found["expires_s"]),
        signed.hexed(found["kid"], 8), signed.unpacked(found["sign"]),
    )  # fmt: skip
    signed.check(found, DOMAIN, request.sign)
    if unknown := set(request.categories) - set(KNOWN):
        raise ValueError(f"no category {min(unknown)[:40]!r}; there are {', '.join(sorted(KNOWN))}")
    low, high = request.from_ns, request.to_ns
    if low is not None and high is not None and low > high:
        raise ValueError("its time ends before it begins")
    return request


def _moment(value: object) -> int | None:
    return None if value is None else whole(value)
