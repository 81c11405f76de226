"""Is this peer our region's broker? The rules, without any I/O. Pure.

- An address must lie in a provisioned prefix. IPv4 inside IPv6 (::ffff:a.b.c.d) is the IPv4
  address. An address that a translator or tunnel leads elsewhere (NAT64, 6to4, Teredo) is foreign
  unless a provisioned prefix lies inside that range: ::/0 on a card does not open it.
- The certificates that OpenSSL verified are exactly two: the broker's, and the region's issuing CA,
  whose key is pinned. Nothing in between, no other root.
- Validity is checked against trusted time, not against the wall clock (which may say 1970).
- The broker's certificate names exactly one region, and it is ours.

Why not `cryptography`: it would cost the uplink 8 MiB of memory for one field. OpenSSL has parsed
and verified the certificates already; `spki` only finds the key in bytes that it has accepted.
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from agent.errors import RegionRefusedError
from agent.region import URI_PREFIX, Network, RegionCard

# RFC 6052, RFC 8215 (NAT64), RFC 3056 (6to4), RFC 4380 (Teredo), RFC 4291 (IPv4-compatible)
TRANSLATED: Final = tuple(
    ipaddress.IPv6Network(prefix)
    for prefix in ("64:ff9b::/96", "64:ff9b:1::/48", "2002::/16", "2001::/32", "::/96")
)
_LOOPBACK: Final = ipaddress.IPv6Address("::1")  # in ::/96, and no translator's


@dataclass(frozen=True, slots=True)
class Peer:
    """What the TLS library verified about the broker.

    Attributes:
        tls: protocol version, e.g. "TLSv1.3".
        resumed: the handshake reused an earlier session, so no certificate was checked.
        chain: the verified path, DER, leaf first.
        uris: the URI names of the leaf.
        not_before_s: start of the leaf's validity, seconds since the Unix epoch.
        not_after_s: its end.
    """

    tls: str
    resumed: bool
    chain: tuple[bytes, ...]
    uris: tuple[str, ...]
    not_before_s: int
    not_after_s: int


def is_home(address: str, prefixes: Sequence[Network]) -> bool:
    """Return whether an IP address (scope id allowed) lies in the region's prefixes."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped:
        ip = ip.ipv4_mapped
    homes = [net for net in prefixes if net.version == ip.version and ip in net]
    if ip.version == 4 or ip == _LOOPBACK:
        return bool(homes)
    ranges = [net for net in TRANSLATED if ip in net]
    return any(all(_inside(home, net) for net in ranges) for home in homes)


def _inside(home: Network, outer: ipaddress.IPv6Network) -> bool:
    return isinstance(home, ipaddress.IPv6Network) and home.subnet_of(outer)


def check_address(address: str, prefixes: Sequence[Network]) -> None:
    """Raise RegionRefusedError("address") unless `is_home`."""
    if not is_home(address, prefixes):
        raise RegionRefusedError("address", f"{address} is outside the region's prefixes")


def check_anchors(anchors: Sequence[bytes], loaded: int, card: RegionCard) -> None:
    """Check at the start that the trust anchors are the pinned ones and nothing else is trusted.

    Args:
        anchors: the issuing CAs of the card, DER.
        loaded: how many certificates the TLS context trusts.
        card: the region.

    Raises:
        RegionRefusedError: "anchor-not-pinned" or "foreign-anchor".
    """
    for anchor in anchors:
        if hashlib.sha256(spki(anchor)).digest() not in card.spki:
            raise RegionRefusedError("anchor-not-pinned", "an issuing_ca of the card has no pin")
    if not anchors or loaded != len(anchors):
        raise RegionRefusedError("foreign-anchor", f"{loaded} trusted instead of {len(anchors)}")


def check_peer(peer: Peer, card: RegionCard, now_ns: int, *, is_floor: bool = False) -> None:
    """Check the broker after the handshake and before the first MQTT byte.

    Args:
        peer: what was verified.
        card: the region.
        now_ns: trusted time, ns since the Unix epoch.
        is_floor: it is that late at least, and nothing more is known. Then a certificate that
            begins later proves nothing: the region may have renewed it while the car slept for
            months, and if the car refused it, it would never hear what time it is.

    Raises:
        RegionRefusedError: "tls-version", "resumed", "path", "issuer", "validity" or "region-uri".
    """
    if peer.tls != "TLSv1.3":
        raise RegionRefusedError("tls-version", peer.tls)
    if peer.resumed:
        raise RegionRefusedError("resumed", "no certificate was checked")
    if len(peer.chain) != 2:
        raise RegionRefusedError("path", f"{len(peer.chain)} certificates instead of 2")
    if hashlib.sha256(spki(peer.chain[1])).digest() not in card.spki:
        raise RegionRefusedError("issuer", "not one of the pinned issuing CAs")
    if now_ns > peer.not_after_s * 10**9:
        raise RegionRefusedError("validity", "the certificate has expired by trusted time")
    if now_ns < peer.not_before_s * 10**9 and not is_floor:
        raise RegionRefusedError("validity", "the certificate is not valid yet by trusted time")
    # urn: and its namespace are case-insensitive (RFC 8141), so is the search for a second region
    regions = [uri for uri in peer.uris if uri.lower().startswith(URI_PREFIX)]
    if regions != [card.region]:
        raise RegionRefusedError("region-uri", f"{', '.join(regions) or 'none'}"[:200])


def spki(certificate: bytes) -> bytes:
    """Return the SubjectPublicKeyInfo of a DER certificate, as it stands there.

    Raises:
        RegionRefusedError: "der": not a certificate.

    Source: RFC 5280, section 4.1 (TBSCertificate: [0] version, serial, signature, issuer,
        validity, subject, subjectPublicKeyInfo).
    """
    at, end = _inner(certificate, 0, len(certificate), 0x30)
    at, end = _inner(certificate, at, end, 0x30)
    if certificate[at : at + 1] == b"\xa0":
        at = _element(certificate, at, end)[1]
    for _ in range(5):
        at = _element(certificate, at, end)[1]
    _inner(certificate, at, end, 0x30)
    return certificate[at : _element(certificate, at, end)[1]]


def _inner(der: bytes, at: int, end: int, tag: int) -> tuple[int, int]:
    """Return where the content of the element at `at` begins and ends; its tag must be `tag`."""
    content, after = _element(der, at, end)
    if der[at] != tag:
        raise RegionRefusedError("der", f"tag {der[at]:#04x} instead of {tag:#04x}")
    return content, after


def _element(der: bytes, at: int, end: int) -> tuple[int, int]:
    """Return where the content of the element at `at` begins, and where the element ends."""
    if at + 2 > end:
        raise RegionRefusedError("der", "cut off")
    size, at = der[at + 1], at + 2
    if size > 0x80:
        width = size & 0x7F
        if width > 3 or at + width > end:
            raise RegionRefusedError("der", "length of length")
        size, at = int.from_bytes(der[at : at + width], "big"), at + width
    elif size == 0x80:
        raise RegionRefusedError("der", "indefinite length")
    if at + size > end:
        raise RegionRefusedError("der", "cut off")
    return at, at + size
