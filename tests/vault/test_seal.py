"""Sealing and opening: what opens, and everything that must not. T23-T28, T81, T82, T86-T88."""

import gc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.errors import ConfigError, SealError
from agent.pb import sealed_pb2
from agent.vault import keys, opening, seal, session
from agent.vault.cpu import aead_for

REGION, OWNER = keys.generate_recipient(), keys.generate_recipient()
REGION_KID, OWNER_KID = keys.kid(REGION[1]), keys.kid(OWNER[1])
PRIVATES = {REGION_KID: REGION[0], OWNER_KID: OWNER[0]}
LOG, ID, SECRET = b"L" * 16, b"S" * 16, bytes(range(32))
PAYLOAD = b"forty-two kilometres an hour" * 20


def begin(recipients=sealed_pb2.REGION, *, secret=SECRET, name=ID, aead=1, index=1, wraps=None):
    header = sealed_pb2.SessionHeader(
        aead=aead, region="urn:inland:region:x", vehicle="car-0001", log=LOG, index=index,
        session=name, epoch=1, recipients=recipients,
    )  # fmt: skip
    wraps = wraps or seal.wraps_for(recipients, region_key=REGION[1], owner_key=OWNER[1])
    body = seal.seal_session(header, secret, wraps)
    return session.Session(secret, session=name, aead=aead), body


def segment(live, index=2, payload=PAYLOAD):
    header = sealed_pb2.SegmentHeader(
        log=LOG, index=index, epoch=1, lane=sealed_pb2.ROUTINE, policy=b"P" * 8
    )
    return seal.seal_segment(live, header, payload)


@pytest.mark.parametrize("aead", [1, 2])
@pytest.mark.parametrize("recipients", [1, 2, 3, 4])
def test_round_trip(recipients, aead):
    live, body = begin(recipients, aead=aead)
    reader = opening.open_session(body, PRIVATES)
    sealed = [segment(live, i, PAYLOAD + bytes([i])) for i in range(6)]
    for i in (3, 0, 5, 1, 4, 2):
        assert opening.open_segment(sealed[i], reader) == PAYLOAD + bytes([i])


def test_who_opens_what():
    region, owner = {REGION_KID: REGION[0]}, {OWNER_KID: OWNER[0]}
    for recipients, by_region, by_owner in ((1, 1, 0), (2, 0, 1), (3, 1, 1), (4, 0, 0)):
        _, body = begin(recipients)
        for privates, allowed in ((region, by_region), (owner, by_owner), ({}, 0)):
            if allowed:
                opening.open_session(body, privates)
            else:
                with pytest.raises(SealError, match="keys"):
                    opening.open_session(body, privates)
        opening.open_session(body, PRIVATES)


def test_a_missing_owner_is_never_narrowed_to_the_region():
    for recipients in (2, 3, 4):
        assert seal.wraps_for(recipients, region_key=REGION[1], owner_key=None) is None
    with pytest.raises(ValueError, match="recipients 0"):
        seal.wraps_for(0, region_key=REGION[1], owner_key=None)


def check_flips(body: bytes, opens, step=1) -> None:
    for at in range(0, len(body), step):
        flipped = body[:at] + bytes([body[at] ^ 1 << at % 8]) + body[at + 1 :]
        with pytest.raises(SealError):
            opens(flipped)
    for end in range(0, len(body), step):
        with pytest.raises(SealError):
            opens(body[:end])
    with pytest.raises(SealError):
        opens(body + b"\0")


def test_every_byte_flip_and_truncation_of_a_segment():
    live, body = begin()
    reader = opening.open_session(body, PRIVATES)
    check_flips(segment(live), reader.open_segment)


@pytest.mark.parametrize("recipients", [1, 4])
def test_every_byte_flip_and_truncation_of_a_session(recipients):
    """Header, kids, and wraps; in steps where the HPKE output is long and uniform."""
    _, body = begin(recipients)
    check_flips(body[:-1000], lambda b: opening.open_session(b, PRIVATES))
    check_flips(body, lambda b: opening.open_session(b, PRIVATES), step=37)


def test_planted_bug_in_the_aad_is_found(monkeypatch):
    """An opener that rebuilds the head from parsed fields accepts altered bytes."""
    live, body = begin()
    reader = opening.open_session(body, PRIVATES)
    good = segment(live)

    def sloppy(blob):
        parts = session.split_head(b"iSG1", blob)
        if parts is None:
            raise SealError("no")
        raw = good[6 : 6 + len(parts[1])]  # "the header is what we know it to be"
        return reader.open_segment(session.head(b"iSG1", raw) + parts[2])

    with pytest.raises((pytest.fail.Exception, AssertionError)):
        check_flips(good, sloppy)


def test_header_rewrite():
    """T23: each field of both headers, changed and stored again, opens nothing."""
    live, body = begin(3)
    blob = segment(live)
    reader = opening.open_session(body, PRIVATES)
    _, header, commitment, sealed = opening.parse_segment(blob)
    for name, value in (
        ("log", b"M" * 16), ("index", 3), ("session", b"T" * 16), ("step", 1), ("epoch", 2),
        ("lane", 0), ("policy", b"Q" * 8),
    ):  # fmt: skip
        changed = sealed_pb2.SegmentHeader()
        changed.CopyFrom(header)
        setattr(changed, name, value)
        new = session.head(b"iSG1", changed.SerializeToString()) + commitment + sealed
        with pytest.raises(SealError):
            reader.open_segment(new)
    _, header, wraps = opening.parse_session(body)
    for name, value in (
        ("kem", 2), ("aead", 2), ("aead", 0), ("region", "urn:inland:region:y"), ("vehicle", "b"),
        ("log", b"M" * 16), ("index", 9), ("session", b"T" * 16), ("epoch", 2), ("recipients", 4),
        ("commitment", b"C" * 32),
    ):  # fmt: skip
        changed = sealed_pb2.SessionHeader()
        changed.CopyFrom(header)
        setattr(changed, name, value)
        new = session.head(b"iSE1", changed.SerializeToString()) + wraps.SerializeToString()
        with pytest.raises(SealError):
            opening.open_session(new, PRIVATES)


def test_wrap_transplant():
    """T25: the wrap of session A in B, and a segment of A claimed for B."""
    live_a, a = begin(name=b"A" * 16, secret=b"a" * 32)
    _, b = begin(name=b"B" * 16, secret=b"b" * 32, index=7)
    _, _, wraps_a = opening.parse_session(a)
    prefix_b, _, _ = opening.parse_session(b)
    with pytest.raises(SealError, match="altered"):
        opening.open_session(prefix_b + wraps_a.SerializeToString(), PRIVATES)
    with pytest.raises(SealError, match="not of this session"):
        opening.open_session(b, PRIVATES).open_segment(segment(live_a))


def test_both_cannot_be_unnested():
    """T26: the outer holder alone gets the inner wrap, never the secret."""
    _, body = begin(4)
    prefix, _, wraps = opening.parse_session(body)
    kids = tuple(wraps.wrap[0].kid)
    assert kids == (REGION_KID, OWNER_KID)
    info = session.wrap_info(prefix, kids)
    outer = keys.hpke_suite().decrypt(wraps.wrap[0].sealed, keys.load_private(OWNER[0]), info=info)
    assert len(outer) > 1000
    single = sealed_pb2.Wraps(wrap=[sealed_pb2.Wrap(kid=[REGION_KID], sealed=outer)])
    with pytest.raises(SealError):
        opening.open_session(prefix + single.SerializeToString(), PRIVATES)


def test_split_secret_is_seen():
    """T88: a car that gives region and owner different secrets is found by the commitment."""
    _, good = begin(3)
    prefix, _, wraps = opening.parse_session(good)
    info = session.wrap_info(prefix, (OWNER_KID,))
    wraps.wrap[1].sealed = keys.hpke_suite().encrypt(
        b"2" * 32, keys.load_public(OWNER[1]), info=info
    )
    lie = prefix + wraps.SerializeToString()
    opening.open_session(lie, {REGION_KID: REGION[0]})
    with pytest.raises(SealError, match="commits"):
        opening.open_session(lie, {OWNER_KID: OWNER[0]})


def test_commitment_is_checked_before_the_tag():
    """T27: GCM alone lets one ciphertext open under two keys; the commitment does not."""
    live, body = begin()
    blob = bytearray(segment(live))
    _, _, commitment, _ = opening.parse_segment(bytes(blob))
    at = bytes(blob).index(commitment)
    blob[at] ^= 1
    with pytest.raises(SealError, match="commitment"):
        opening.open_session(body, PRIVATES).open_segment(bytes(blob))


def test_chain_is_one_way_and_the_old_value_is_dropped():
    """T82: after segment n nothing reachable in the session opens segments up to n."""
    live, _ = begin()
    chains = [SECRET]
    for _ in range(4):
        chains.append(session.next_chain(chains[-1]))
    for n in range(4):
        assert live.take() == (n, chains[n])
        reachable = {live._chain, *(o for o in gc.get_referents(live) if isinstance(o, bytes))}
        assert chains[n + 1] in reachable
        assert not reachable & set(chains[: n + 1])


def test_failed_seal_burns_its_step(monkeypatch):
    """T87: the key of a seal that failed is never given to other data."""
    live, body = begin()
    segment(live)
    with monkeypatch.context() as patch:
        patch.setattr(seal, "cipher", lambda *_: (_ for _ in ()).throw(MemoryError()))
        with pytest.raises(MemoryError):
            segment(live)
    after = segment(live)
    assert opening.parse_segment(after)[1].step == 2
    assert opening.open_session(body, PRIVATES).open_segment(after) == PAYLOAD


def check_keys_are_unique(seal_one, monkeypatch) -> None:
    """T28: whatever fails or restarts, no AEAD key is used twice."""
    seen = []
    real = seal.cipher
    monkeypatch.setattr(seal, "cipher", lambda aead, key: seen.append(key) or real(aead, key))
    for life in range(3):
        live, _ = begin(secret=bytes([life]) * 32)
        for index in range(200):
            seal_one(live, index)
    assert len(seen) == len(set(seen)) == 600


def test_no_key_is_used_twice(monkeypatch):
    check_keys_are_unique(lambda live, i: segment(live, 5, PAYLOAD), monkeypatch)


def test_planted_key_reuse_is_found(monkeypatch):
    def stuck(live, index):
        segment(live, 5)
        live._chain = SECRET

    with pytest.raises(AssertionError):
        check_keys_are_unique(stuck, monkeypatch)


def test_overhead_is_at_most_160_bytes():
    """The bar of the design, with a late index and step, and the 34 bytes of the payload's salt."""
    live, _ = begin()
    live.step = 2**21 - 1
    header = sealed_pb2.SegmentHeader(log=LOG, index=2**32, epoch=200, lane=3, policy=b"P" * 8)
    assert len(seal.seal_segment(live, header, PAYLOAD)) - len(PAYLOAD) + 34 <= 160


def test_session_sizes():
    sizes = [len(begin(r)[1]) for r in (1, 2, 3, 4)]
    assert sizes[0] < 1450
    assert sizes[2] < 2650


def test_unknown_suites_and_keys():
    with pytest.raises(ValueError, match="AEAD 3"):
        seal.cipher(3, bytes(32))
    with pytest.raises(ConfigError, match="another suite"):
        begin(wraps=((REGION[1][:-32],),))
    with pytest.raises(SealError, match="96 bytes"):
        keys.load_private(bytes(32))
    assert keys.public_of(REGION[0]) == REGION[1]


def test_steps_far_ahead_are_refused_and_old_ones_found_again():
    live, body = begin()
    first = segment(live)
    reader = opening.open_session(body, PRIVATES)
    for _ in range(opening.MAX_CACHED + 10):
        live.take()
    last = segment(live)
    assert reader.open_segment(last) == PAYLOAD
    assert reader.open_segment(first) == PAYLOAD
    live.step = 2**31
    with pytest.raises(SealError, match="further"):
        reader.open_segment(segment(live))


@given(st.binary(max_size=200))
@settings(max_examples=200)
def test_any_bytes_give_seal_error(data):
    reader = opening.SessionReader(sealed_pb2.SessionHeader(session=ID), SECRET)
    for magic in (b"", b"iSE1", b"iSG1"):
        with pytest.raises(SealError):
            opening.open_session(magic + data, PRIVATES)
        with pytest.raises(SealError):
            reader.open_segment(magic + data)


def test_aead_by_cpu():
    assert aead_for("processor: 0\nflags\t\t: fpu aes avx\n") == 1
    assert aead_for("Features\t: fp asimd aes pmull\n") == 1
    assert aead_for("Features\t: fp asimd\n") == 2
    assert aead_for("flags: vaes\n") == 2
    assert aead_for("") == 2


def test_ledger_key_file(tmp_path):
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from agent.files import write_new
    from agent.station.certificates import private_pem

    path = tmp_path / "ledger.key"
    key = Ed25519PrivateKey.generate()
    write_new(path, private_pem(key))
    assert keys.load_ledger_key(path).private_bytes_raw() == key.private_bytes_raw()
    for mode in (0o640, 0o604):
        path.chmod(mode)
        with pytest.raises(ConfigError, match="chmod 600"):
            keys.load_ledger_key(path)
    path.chmod(0o600)
    path.write_bytes(b"-----BEGIN PRIVATE KEY-----")
    with pytest.raises(ConfigError, match="Ed25519"):
        keys.load_ledger_key(path)
    with pytest.raises(ConfigError, match="cannot read"):
        keys.load_ledger_key(tmp_path / "none")
    with pytest.raises(ConfigError, match=r"plain file|cannot read"):
        keys.load_ledger_key(tmp_path)


def openssl_knows(pem: bytes) -> bytes | None:
    """The same by the library that reads every form of key."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return None
    return key.private_bytes_raw() if isinstance(key, Ed25519PrivateKey) else None


def check_forms_of_a_key() -> None:
    """Whatever form a key file has: the same key, or the same no, as the library says."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

    def pem(key, how=None) -> bytes:
        return key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
            how or serialization.NoEncryption(),
        )  # fmt: skip

    good = pem(Ed25519PrivateKey.from_private_bytes(SECRET))
    assert keys._ed25519(good).private_bytes_raw() == SECRET
    forms = [
        good.replace(b"\n", b"\r\n"), b"\n" + good, good.rstrip(), b"a key:\n" + good,
        good.replace(b"PRIVATE", b"PUBLIC"), good.replace(b"MC4C", b"MC4D"), good + good, b"",
        good[:60] + b"\n" + good[60:], good[:50] + b" " + good[50:], good[:50] + b"*" + good[50:],
        pem(X25519PrivateKey.from_private_bytes(SECRET)),
        pem(Ed25519PrivateKey.generate(), serialization.BestAvailableEncryption(b"words")),
        *(good[:size] for size in range(len(good))),
        *(good[:at] + b"A" + good[at + 1 :] for at in range(28, 92)),
    ]  # fmt: skip
    for form in forms:
        key = keys._ed25519(form)
        assert (key.private_bytes_raw() if key else None) == openssl_knows(form), form


def test_a_ledger_key_is_read_as_the_library_reads_it():
    check_forms_of_a_key()


def test_the_check_finds_a_key_of_another_kind_that_is_taken_for_one(monkeypatch):
    monkeypatch.setattr(keys, "_ED25519_HEAD", bytes.fromhex("302e020100300506032b656e04220420"))
    with pytest.raises(AssertionError):
        check_forms_of_a_key()
