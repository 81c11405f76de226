"""The owner's key on the owner's side: what follows from the seed, the file, the public half."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from agent.errors import ConfigError, InlandError, OwnerError
from agent.owner import keyfile
from agent.owner.keyfile import OwnerKey
from agent.owner.public import read_public
from agent.vault import keys

KEY = OwnerKey(bytes(range(32)), "Li Wei")
PHRASE = "four words of nothing"


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same with less work, where the work is not what is tested."""
    monkeypatch.setattr(keyfile, "_N", 2**10)


def test_keys_follow_from_the_seed_as_the_document_says():
    """By RFC 5869 with the labels that are written down, and in the vault's order of bytes."""

    def derive(label: bytes, size: int) -> bytes:
        return HKDF(hashes.SHA256(), size, salt=None, info=label).derive(KEY.seed)

    assert KEY.private == (
        derive(b"inland/owner/mlkem/v1", 64) + derive(b"inland/owner/x25519/v1", 32)
    )
    assert KEY.public.recipient == keys.public_of(KEY.private)
    assert KEY.signing.private_bytes_raw() == derive(b"inland/owner/sign/v1", 32)
    sealed = keys.hpke_suite().encrypt(b"x", keys.load_public(KEY.public.recipient), info=b"i")
    opened = keys.hpke_suite().decrypt(sealed, keys.load_private(KEY.private), info=b"i")
    assert opened == b"x"


def test_a_key_file_opens_with_its_passphrase_alone(tmp_path: Path):
    """With the real work factors, once."""
    path = tmp_path / "owner.key"
    keyfile.save(path, KEY, PHRASE, os.urandom)
    assert path.stat().st_mode & 0o777 == 0o600
    assert keyfile.load(path, PHRASE) == KEY
    with pytest.raises(OwnerError, match=r"passphrase is another one.*recover"):
        keyfile.load(path, PHRASE + ".")
    assert KEY.seed not in path.read_bytes()
    assert base64.b64encode(KEY.seed)[:20] not in path.read_bytes()


@pytest.mark.usefixtures("quick")
def test_a_key_is_never_overwritten_nor_read_by_others(tmp_path: Path):
    path = tmp_path / "owner.key"
    keyfile.save(path, KEY, PHRASE, os.urandom)
    before = path.read_bytes()
    with pytest.raises(ConfigError, match="never overwritten"):
        keyfile.save(path, KEY, PHRASE, os.urandom)
    assert path.read_bytes() == before
    path.chmod(0o644)
    with pytest.raises(ConfigError, match="can be read by others"):
        keyfile.load(path, PHRASE)


@pytest.mark.usefixtures("quick")
def test_every_altered_byte_of_a_key_file_is_one_error(tmp_path: Path):
    """Whether it breaks JSON, base64, the name or the seed."""
    path = tmp_path / "owner.key"
    keyfile.save(path, KEY, PHRASE, os.urandom)
    whole = path.read_bytes()
    for at in range(len(whole) - 1):
        altered = bytearray(whole)
        altered[at] ^= 1
        path.write_bytes(bytes(altered))
        with pytest.raises(InlandError):
            keyfile.load(path, PHRASE)
    for size in range(0, len(whole) - 2, 7):
        path.write_bytes(whole[:size])
        with pytest.raises(ConfigError, match="not an owner's key"):
            keyfile.load(path, PHRASE)


@pytest.mark.usefixtures("quick")
def test_a_file_does_not_choose_the_work(tmp_path: Path):
    """With n = 2^30 it would take a terabyte, with n = 2 nothing."""
    path = tmp_path / "owner.key"
    keyfile.save(path, KEY, PHRASE, os.urandom)
    values = json.loads(path.read_text())
    for n in (2, 2**30):
        path.write_text(json.dumps(values | {"n": n}))
        with pytest.raises(ConfigError, match="work factors"):
            keyfile.load(path, PHRASE)


def test_a_short_passphrase_is_refused(tmp_path: Path):
    with pytest.raises(ConfigError, match="at least 8 characters"):
        keyfile.save(tmp_path / "owner.key", KEY, "1234567", os.urandom)
    assert not (tmp_path / "owner.key").exists()


GOOD = json.loads(KEY.public.text())


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "not an owner's public key"),
        (b"\xff\xfe", "not an owner's public key"),
        (b"[" * 4000, "nested too deeply"),
        (b"x" * 9000, "more than 8192 bytes"),
        (b"[]", "not an object of"),
        (json.dumps(GOOD | {"more": 1}), "not an object of"),
        (json.dumps({k: v for k, v in GOOD.items() if k != "sign"}), "not an object of"),
        (json.dumps(GOOD | {"format": "inland owner public key 9"}), "its format is"),
        (json.dumps(GOOD | {"recipient": "?"}), "base64"),
        (json.dumps(GOOD | {"recipient": 5}), "no text"),
        (json.dumps(GOOD | {"recipient": GOOD["recipient"][:400]}), "has 1216 bytes"),
        (
            json.dumps(GOOD | {"recipient": base64.b64encode(b"\xff" * 1216).decode()}),
            "not an owner's public key",
        ),
        (json.dumps(GOOD | {"sign": base64.b64encode(bytes(31)).decode()}), "Ed25519"),
        (json.dumps(GOOD | {"name": ""}), "not a name"),
        (json.dumps(GOOD | {"name": "a\nb"}), "not a name"),
        (json.dumps(GOOD | {"name": "a" * 65}), "not a name"),
        ('{"format": 1, "format": 2}', "twice"),
    ],
)  # fmt: skip
def test_an_odd_owner_pub_is_one_line(tmp_path: Path, content: str | bytes, said: str):
    path = tmp_path / "owner.pub"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ConfigError, match=said) as error:
        read_public(path)
    assert "\n" not in str(error.value)
    assert str(path) in str(error.value)


def test_what_is_no_file_is_said_at_once(tmp_path: Path):
    """A folder, a pipe that nobody writes to, nothing."""
    os.mkfifo(tmp_path / "pipe")
    for name in (".", "pipe", "missing", "/dev/zero"):
        with pytest.raises(ConfigError):
            read_public(tmp_path / name)


def test_a_public_file_reads_back(tmp_path: Path):
    path = tmp_path / "owner.pub"
    path.write_text(KEY.public.text())
    assert read_public(path) == KEY.public
    assert path.read_text().count("\n") == 1
