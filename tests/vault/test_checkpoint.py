"""Signed notes: round trip, the published example, every truncation and flipped byte."""

import base64
import contextlib

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.errors import SealError
from agent.vault import checkpoint
from agent.vault.checkpoint import Checkpoint, VerifierKey

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
REGION = Ed25519PrivateKey.from_private_bytes(bytes(range(1, 33)))
ORIGIN = checkpoint.origin_of("car-0001", bytes(16))
HEAD = Checkpoint(ORIGIN, 20852163, bytes(range(32)))
MINE = VerifierKey(ORIGIN, checkpoint.ED25519, KEY.public_key().public_bytes_raw())
THEIRS = VerifierKey("region/x", checkpoint.COSIGNATURE_V1, REGION.public_key().public_bytes_raw())

# golang.org/x/mod/sumdb/note: the package's documented example key and note
GO_VKEY = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"


def test_go_vkey_is_read_and_written():
    key = checkpoint.parse_vkey(GO_VKEY)
    assert (key.name, key.kind, key.key_id.hex()) == ("PeterNeumann", 1, "c74f20a3")
    assert key.text() == GO_VKEY


def test_round_trip_and_cosignature_time():
    note = checkpoint.sign(HEAD, KEY)
    assert note.splitlines()[:3] == [ORIGIN, "20852163", base64.b64encode(HEAD.root).decode()]
    assert note.splitlines()[4].startswith(f"\u2014 {ORIGIN} ")
    both = checkpoint.cosign(note, name="region/x", key=REGION, unix_s=1_793_600_000)
    parsed = checkpoint.parse(both)
    assert parsed.checkpoint == HEAD
    assert parsed.text() == both
    assert checkpoint.verify(parsed, MINE) == 0
    assert checkpoint.verify(parsed, THEIRS) == 1_793_600_000
    assert checkpoint.verify(checkpoint.parse(note), THEIRS) is None


def accepts(text: str) -> bool:
    try:
        note = checkpoint.parse(text)
        return checkpoint.verify(note, MINE) == 0 and checkpoint.verify(note, THEIRS) is not None
    except SealError:
        return False


def check_every_change(accept) -> None:
    note = checkpoint.cosign(
        checkpoint.sign(HEAD, KEY), name="region/x", key=REGION, unix_s=1_793_600_000
    )
    assert accept(note)
    raw = note.encode()
    for end in range(len(raw)):
        assert not accept(raw[:end].decode("utf-8", "replace"))
    for at in range(len(raw)):
        for bit in (1, 0x20, 0x80):
            flipped = bytearray(raw)
            flipped[at] ^= bit
            assert not accept(bytes(flipped).decode("utf-8", "replace")), at


def test_every_truncation_and_flip_is_refused():
    check_every_change(accepts)


def test_planted_bug_is_found():
    """A verifier that looks at the first signature alone passes altered cosignatures."""

    def lazy(text):
        try:
            return checkpoint.verify(checkpoint.parse(text), MINE) == 0
        except SealError:
            return False

    with pytest.raises(AssertionError):
        check_every_change(lazy)


@pytest.mark.parametrize("size", ["01", "+1", "-1", " 1", "1 ", "", "1e3", "\u0661", "9" * 20])
def test_sizes_have_one_form(size):
    text = checkpoint.sign(HEAD, KEY).replace("20852163", size)
    with pytest.raises(SealError):
        checkpoint.parse(text)


def test_limits_and_forms():
    note = checkpoint.sign(HEAD, KEY)
    line = note.splitlines()[-1]
    for bad in (
        note + f"{line}\n" * 16, note.replace("\n\n", "\nextension\n\n"), "\n" + note,
        note.replace("\u2014", "-"), note + "x" * 17000, note.replace("car-0001", "car 0001"),
    ):  # fmt: skip
        with pytest.raises(SealError):
            checkpoint.parse(bad)
    for bad in ("", "x", "a+b+c", "Peter Neumann" + GO_VKEY[12:], GO_VKEY.replace("c74f", "c74e")):
        with pytest.raises(SealError):
            checkpoint.parse_vkey(bad)


@given(st.text(max_size=300))
@settings(max_examples=150)
def test_any_text_gives_a_note_or_seal_error(text):
    with contextlib.suppress(SealError):
        assert checkpoint.parse(text).text() == text
