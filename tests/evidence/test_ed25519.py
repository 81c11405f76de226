"""The verifier's own Ed25519 against OpenSSL's and the vectors of RFC 8032."""

from __future__ import annotations

import random

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.evidence import ed25519
from agent.evidence.ed25519 import L, P, signed_by

# RFC 8032, 7.1: secret, public, message, signature.
RFC_8032 = [
    (
        "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        (
            "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b4"
            "6bd25bf5f0595bbe24655141438e7a100b"
        ),
    ),
    (
        "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        (
            "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d"
            "8c387b2eaeb4302aeeb00d291612bb0c00"
        ),
    ),
    (
        "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        (
            "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6"
            "594a7c15e9716ed28dc027beceea1ec40a"
        ),
    ),
]
# Points of order 1, 2, 4 and 8 in their canonical form: under such a key a signature says nothing.
SMALL = [
    "0100000000000000000000000000000000000000000000000000000000000000",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0000000000000000000000000000000000000000000000000000000000000080",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
]


def openssl(public: bytes, signature: bytes, message: bytes) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


@pytest.mark.parametrize(("secret", "public", "message", "signature"), RFC_8032)
def test_vectors_of_the_rfc(secret: str, public: str, message: str, signature: str):
    key, text, signed = (bytes.fromhex(each) for each in (public, message, signature))
    assert Ed25519PrivateKey.from_private_bytes(bytes.fromhex(secret)).sign(text) == signed
    assert signed_by(key, signed, text)
    assert not signed_by(key, signed, text + b"x")


@settings(max_examples=40, deadline=None)
@given(st.binary(min_size=32, max_size=32), st.binary(max_size=80), st.integers(0, 10**9))
def test_it_judges_as_openssl_does(seed: bytes, message: bytes, damage: int):
    """Whole, and with one bit of key, signature or message turned."""
    secret = Ed25519PrivateKey.from_private_bytes(seed)
    public, signature = secret.public_key().public_bytes_raw(), secret.sign(message)
    assert signed_by(public, signature, message)
    parts = bytearray(public + signature + message)
    bit = damage % (8 * len(parts))
    parts[bit // 8] ^= 1 << bit % 8
    changed = bytes(parts[:32]), bytes(parts[32:96]), bytes(parts[96:])
    assert signed_by(*changed) == openssl(*changed) is False


def malleable(signature: bytes, times: int) -> bytes:
    """The same signature with S + times * L: the equation holds, and the RFC forbids it."""
    s = int.from_bytes(signature[32:], "little") + times * L
    return signature[:32] + s.to_bytes(32, "little")


def test_a_malleable_signature_is_refused():
    secret = Ed25519PrivateKey.from_private_bytes(b"s" * 32)
    public, signature = secret.public_key().public_bytes_raw(), secret.sign(b"m")
    assert signed_by(public, malleable(signature, 0), b"m")
    for times in range(1, 15):
        assert not signed_by(public, malleable(signature, times), b"m")
        assert not openssl(public, malleable(signature, times), b"m")


def test_a_verifier_that_takes_any_s_is_found(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(ed25519, "L", 1 << 256)
    with pytest.raises(AssertionError):
        test_a_malleable_signature_is_refused()


@pytest.mark.parametrize("small", SMALL)
def test_a_key_of_small_order_signs_nothing(small: str):
    """OpenSSL takes R = [S]B - [k]A under such a key, whatever was signed: anybody can make one."""
    public, rng = bytes.fromhex(small), random.Random(small)
    taken = 0
    for _ in range(40):
        s = rng.randrange(L)
        point = ed25519._encoded(multiple(s))
        signature = point + s.to_bytes(32, "little")
        message = rng.randbytes(8)
        taken += openssl(public, signature, message)
        assert not signed_by(public, signature, message)
    assert taken > 0


def multiple(s: int):  # type: ignore[no-untyped-def]
    total, base = ed25519.NEUTRAL, ed25519._point(ed25519.BASE)
    for bit in bin(s)[2:]:
        total = ed25519._add(total, total)
        total = ed25519._add(total, base) if bit == "1" else total
    return total


def test_points_that_are_not_in_their_one_form_are_none():
    """Y = p + 1 is the neutral point once more; RFC 8032, 5.1.3 refuses it."""
    for y in (P, P + 1, P + 18):
        assert ed25519._point(y.to_bytes(32, "little")) is None
    assert ed25519._point((1 | 1 << 255).to_bytes(32, "little")) is None  # minus zero
    assert ed25519._point(bytes(31)) is None
