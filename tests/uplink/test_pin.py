"""The rules of the pin, one by one."""

from __future__ import annotations

import ipaddress
from contextlib import suppress
from dataclasses import replace

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.errors import LinkError, RegionRefusedError
from agent.uplink.pin import Peer, check_anchors, check_peer, is_home, spki
from agent.uplink.resolve import resolve
from agent.uplink.timing import Timing
from agent.uplink.tls import PinnedContext
from tests.pki import REGION, SIBLING, Pki, pem
from tests.uplink.fakes import resolver

HOMES = tuple(map(ipaddress.ip_network, ("203.0.113.0/24", "2001:db8::/32")))


@pytest.mark.parametrize(
    ("address", "home"),
    [
        ("203.0.113.7", True),
        ("203.0.114.7", False),
        ("::ffff:203.0.113.7", True),  # IPv4 in IPv6 is that IPv4 address
        ("::ffff:198.51.100.1", False),
        ("2001:db8::1", True),
        ("2001:db8::1%eth0", True),
        ("2001:db9::1", False),
        ("64:ff9b::cb00:7107", False),  # NAT64 of 203.0.113.7: a translator decides where it goes
        ("2002:cb00:7107::1", False),
        ("2001:0:cb00:7107::1", False),
        ("::203.0.113.7", False),
        ("not an address", False),
        ("", False),
    ],
)
def test_address_belongs_to_the_region_or_not(address: str, home: bool) -> None:
    assert is_home(address, HOMES) is home


def test_wide_prefix_opens_no_translator_and_a_provisioned_one_does() -> None:
    everything = (ipaddress.ip_network("::/0"),)
    assert is_home("2001:db8::1", everything)
    assert is_home("::1", everything)
    assert not is_home("64:ff9b::1", everything)
    assert is_home("64:ff9b::1", (ipaddress.ip_network("64:ff9b::/96"),))


@given(st.ip_addresses())
def test_address_outside_every_prefix_is_never_home(address: ipaddress.IPv4Address) -> None:
    inside = any(address in net for net in HOMES if net.version == address.version)
    mapped = getattr(address, "ipv4_mapped", None)
    if not inside and not (mapped and mapped in HOMES[0]):
        assert not is_home(str(address), HOMES)


def test_foreign_answers_are_dropped_and_the_rest_is_tried_from_anywhere(pki: Pki) -> None:
    card = replace(pki.card(8883), prefixes=HOMES)
    answers = resolver("198.51.100.9", "203.0.113.1", "203.0.113.2", "203.0.113.1", "2001:db8::9")
    assert resolve(card, lambda: 0.0, answers) == ("203.0.113.1", "203.0.113.2", "2001:db8::9")
    assert resolve(card, lambda: 0.99, answers)[0] == "2001:db8::9"
    with pytest.raises(RegionRefusedError) as refused:
        resolve(card, lambda: 0.0, resolver("198.51.100.9"))
    assert refused.value.code == "no-address-in-region"


def test_name_that_does_not_resolve_is_no_refusal(pki: Pki) -> None:
    def fails(*_: object) -> list[object]:
        raise OSError("temporary failure in name resolution")

    with pytest.raises(LinkError, match="cannot resolve") as error:
        resolve(pki.card(1), lambda: 0.0, fails)  # type: ignore[arg-type]
    assert not isinstance(error.value, RegionRefusedError)


def good_peer(pki: Pki) -> Peer:
    leaf = x509.load_pem_x509_certificates(pki.leaf("pin-good").read_bytes())
    chain = tuple(certificate.public_bytes(Encoding.DER) for certificate in leaf)
    return Peer("TLSv1.3", False, chain, (REGION,), 1000, 2000)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({}, None),
        ({"uris": ("https://x.test", REGION)}, None),  # other kinds of URI name no region
        ({"tls": "TLSv1.2"}, "tls-version"),
        ({"resumed": True}, "resumed"),
        ({"chain": ()}, "path"),
        ({"not_before_s": 1501}, "validity"),
        ({"not_after_s": 1499}, "validity"),
        ({"uris": ()}, "region-uri"),
        ({"uris": (SIBLING,)}, "region-uri"),
        ({"uris": (REGION, REGION)}, "region-uri"),
        ({"uris": (REGION + "x",)}, "region-uri"),
        ({"uris": (REGION, "URN:Inland:REGION:south")}, "region-uri"),
    ],
)
def test_each_defect_of_the_peer_is_refused(
    change: dict[str, object], code: str | None, pki: Pki
) -> None:
    peer = replace(good_peer(pki), **change)
    if code is None:
        check_peer(peer, pki.card(1), 1500 * 10**9)
        return
    with pytest.raises(RegionRefusedError) as refused:
        check_peer(peer, pki.card(1), 1500 * 10**9)
    assert refused.value.code == code
    assert isinstance(refused.value, OSError), "paho's loop survives nothing else"


def test_a_car_that_only_knows_a_floor_lets_in_what_begins_later_but_not_what_has_expired(
    pki: Pki,
) -> None:
    """Its clock says 1970, and the region renewed its certificate while it stood in a garage."""
    renewed, card = replace(good_peer(pki), not_before_s=1501), pki.card(1)
    check_peer(renewed, card, 1500 * 10**9, is_floor=True)
    with pytest.raises(RegionRefusedError, match="not valid yet"):
        check_peer(renewed, card, 1500 * 10**9)
    with pytest.raises(RegionRefusedError, match="expired"):
        check_peer(renewed, card, 2001 * 10**9, is_floor=True)


def test_issuer_without_a_pin_and_paths_of_other_lengths_are_refused(pki: Pki) -> None:
    peer = good_peer(pki)
    sibling = pki.sibling.certificate.public_bytes(Encoding.DER)
    for chain, code in [
        ((peer.chain[0], sibling), "issuer"),
        (peer.chain[:1], "path"),
        ((*peer.chain, sibling), "path"),
        ((peer.chain[0], peer.chain[1][:40]), "der"),
    ]:
        with pytest.raises(RegionRefusedError) as refused:
            check_peer(replace(peer, chain=chain), pki.card(1), 1500 * 10**9)
        assert refused.value.code == code


def test_spki_is_what_cryptography_finds(pki: Pki) -> None:
    for authority in (pki.root, pki.region, pki.sibling, pki.public):
        der = authority.certificate.public_bytes(Encoding.DER)
        key = authority.certificate.public_key()
        assert spki(der) == key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def test_every_truncation_of_a_certificate_is_refused(pki: Pki) -> None:
    der = pki.region.certificate.public_bytes(Encoding.DER)
    for end in range(len(der)):
        with pytest.raises(RegionRefusedError):
            spki(der[:end])


@settings(max_examples=100)
@given(data=st.binary(max_size=80), at=st.integers(0, 200), byte=st.integers(0, 255))
def test_any_bytes_are_a_key_or_refused(pki: Pki, data: bytes, at: int, byte: int) -> None:
    der = bytearray(pki.region.certificate.public_bytes(Encoding.DER))
    der[at] = byte
    for candidate in (bytes(der), data):
        with suppress(RegionRefusedError):
            assert spki(candidate)


def test_replaced_or_additional_anchor_stops_the_start(pki: Pki) -> None:
    """T10: the CA on the card is not the pinned one; or something else is trusted too."""
    card = pki.card(1)
    other = replace(card, issuing_ca=(pem(pki.sibling.certificate),))
    both = replace(card, issuing_ca=(*card.issuing_ca, pem(pki.sibling.certificate)))
    for wrong in (other, both, replace(card, issuing_ca=(pem_leaf(pki),))):
        with pytest.raises(RegionRefusedError) as refused:
            PinnedContext(wrong, None, None, now_ns=lambda: 0, timing=Timing())
        assert refused.value.code in {"anchor-not-pinned", "foreign-anchor"}
    der = pki.region.certificate.public_bytes(Encoding.DER)
    with pytest.raises(RegionRefusedError, match="foreign-anchor"):
        check_anchors([der], 2, card)
    with pytest.raises(RegionRefusedError, match="foreign-anchor"):
        check_anchors([], 0, card)


def pem_leaf(pki: Pki) -> str:
    leaf = x509.load_pem_x509_certificates(pki.leaf("as-anchor").read_bytes())[0]
    return pem(leaf)


def test_next_issuing_ca_beside_the_current_one_is_accepted(pki: Pki) -> None:
    from tests.pki import Authority, pin

    following = Authority("region north, next", pki.root)
    card = replace(
        pki.card(1, pins=(pin(pki.region.certificate), pin(following.certificate))),
        issuing_ca=(pem(pki.region.certificate), pem(following.certificate)),
    )
    PinnedContext(card, None, None, now_ns=lambda: 0, timing=Timing())
