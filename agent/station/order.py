"""An authority's order: signed, for one window of one vehicle. Values, and what they must fit.

Whoever may order is written into the region folder beforehand, under the name that the orders say.
An order names a person who answers for it, and says whether the owner may be told: at once, or from
a day on. There is always such a day.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from agent.errors import ConfigError, StationError
from agent.evidence import signed
from agent.evidence.proof import LANES
from agent.strict_json import listed, text, whole
from agent.vault import keys

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

FORMAT: Final = "inland order 1"
DOMAIN: Final = "inland/order/v1"
ID_BYTES: Final = 16
MAX_SILENCE_S: Final = 366 * 86_400  # an owner is told after a year at the latest
_NAMES: Final = (
    "id", "region", "reference", "basis", "authority", "officer", "vehicle", "from_ns", "to_ns",
    "lanes", "issued_s", "expires_s", "tell_from_s", "recipient",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class AuthorityOrder:
    """What an authority orders to be opened.

    Attributes:
        id: 16 random bytes, hex: an order is served once.
        region: urn:inland:region:<id>.
        reference: of the authority's file.
        basis: the law that lets it order this, in words: the owner is told.
        authority: its name, as the region trusts it.
        officer: who answers for it.
        vehicle: pseudonym.
        from_ns: first moment, ns since the Unix epoch.
        to_ns: last moment, inclusive.
        lanes: names; empty: all.
        issued_s: Unix time at which it was signed.
        expires_s: Unix time after which it is not served any more.
        tell_from_s: Unix time from which the owner may be told; 0: at once.
        recipient: what is opened is sealed to this key, 1216 bytes; empty: it is not sealed.
    """

    id: str
    region: str
    reference: str
    basis: str
    authority: str
    officer: str
    vehicle: str
    from_ns: int
    to_ns: int
    lanes: tuple[str, ...]
    issued_s: int
    expires_s: int
    tell_from_s: int
    recipient: bytes = b""


def write(order: AuthorityOrder, key: Ed25519PrivateKey) -> bytes:
    """Return the file of an order."""
    values: dict[str, Any] = {name: getattr(order, name) for name in _NAMES}
    recipient = base64.b64encode(order.recipient).decode()
    said = {**values, "format": FORMAT, "lanes": list(order.lanes), "recipient": recipient}
    return signed.write(said, DOMAIN, key)


def read(data: bytes, trusted: Mapping[str, bytes]) -> tuple[AuthorityOrder, str]:
    """Return an order of an authority that is trusted, and the kid of its key in hex.

    Args:
        data: the file.
        trusted: Ed25519 public keys of authorities by their names.

    Raises:
        ValueError: it is none, was altered, or is of nobody who may order.
    """
    found = signed.read(data, FORMAT, _NAMES)
    authority = signed.words(found["authority"], "authority")
    if authority not in trusted:
        raise ValueError(f"no key is trusted for '{authority}'")
    signed.check(found, DOMAIN, trusted[authority])
    order = AuthorityOrder(
        signed.hexed(found["id"], ID_BYTES), signed.words(found["region"], "region"),
        signed.words(found["reference"], "reference"), signed.words(found["basis"], "basis"),
        authority,
        signed.words(found["officer"], "officer"), signed.words(found["vehicle"], "vehicle"),
        whole(found["from_ns"]), whole(found["to_ns"]), tuple(map(text, listed(found["lanes"]))),
        signed.second(found["issued_s"]), signed.second(found["expires_s"]),
        signed.second(found["tell_from_s"]), _recipient(found["recipient"]),
    )  # fmt: skip
    if order.from_ns > order.to_ns:
        raise ValueError("its window ends before it begins")
    if unknown := set(order.lanes) - set(LANES):
        raise ValueError(f"no lane {min(unknown)[:40]!r}; there are {', '.join(LANES)}")
    if order.tell_from_s > order.issued_s + MAX_SILENCE_S:
        raise ValueError("it would keep the owner from being told for more than a year")
    return order, keys.kid(trusted[authority]).hex()


def _recipient(value: object) -> bytes:
    found = signed.unpacked(value)
    if found:
        try:
            keys.load_public(found)
        except ConfigError as error:
            raise ValueError(f"its recipient: {error.what}") from None
    return found


def refused(why: str, *, todo: str = "") -> StationError:
    """Return what is said of an order that is not served."""
    return StationError(f"the order is refused: {why}", todo=todo)
