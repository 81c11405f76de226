r"""Signed tree heads: C2SP signed notes, tlog-checkpoint and cosignature/v1. Pure.

A note is UTF-8 text: body (ends with a newline), an empty line, then signature lines

    — <name> base64(key id, 4 bytes | signature)

- Body of a checkpoint: origin, size in decimal, base64 of the root; nothing after that here.
- Ed25519 (type 1): signature over the body. Key id = SHA-256(name | "\n" | type | public)[:4].
- Cosignature (type 4): u64 time in seconds | Ed25519 over "cosignature/v1\ntime T\n" | body. It
  is how the region says when it first saw this tree, its only trusted time.
- Parsing is strict: one form for each value, bounded sizes. Unknown signers are kept, and ignored
  by verification, as the specification asks; a known signer with a wrong signature is an error.

Source: c2sp.org/signed-note, c2sp.org/tlog-checkpoint, c2sp.org/tlog-cosignature.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)

from agent.digest import sha256
from agent.errors import SealError

ED25519: Final = 1
COSIGNATURE_V1: Final = 4
MAX_NOTE_BYTES: Final = 16 * 1024
MAX_SIGNATURES: Final = 16
ROOT_BYTES: Final = 32
_KEY_ID: Final = 4
_SIGNATURE: Final = 64
_DASH: Final = "\u2014 "  # em dash and a space begin a signature line


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The head of a tree: whose it is, how many leaves, their root (32 bytes)."""

    origin: str
    size: int
    root: bytes

    def body(self) -> str:
        """Return the text that is signed."""
        return f"{self.origin}\n{self.size}\n{base64.b64encode(self.root).decode()}\n"


@dataclass(frozen=True, slots=True)
class Signature:
    """One signature line: key name, key id (4 bytes), what follows it."""

    name: str
    key_id: bytes
    value: bytes

    def line(self) -> str:
        """Return the line as it stands in a note."""
        return f"{_DASH}{self.name} {base64.b64encode(self.key_id + self.value).decode()}\n"


@dataclass(frozen=True, slots=True)
class Note:
    """A parsed checkpoint note; nothing is verified yet."""

    checkpoint: Checkpoint
    signatures: tuple[Signature, ...]

    def text(self) -> str:
        """Return the note; the inverse of `parse`."""
        return self.checkpoint.body() + "\n" + "".join(s.line() for s in self.signatures)


@dataclass(frozen=True, slots=True)
class VerifierKey:
    """A public key with its name and signature type, as a vkey gives it."""

    name: str
    kind: int
    public: bytes

    @property
    def key_id(self) -> bytes:
        """The 4 bytes that find its signature lines; a hint, not a proof."""
        text = self.name.encode() + b"\n" + bytes([self.kind]) + self.public
        return sha256(text)[:_KEY_ID]

    def text(self) -> str:
        """Return the vkey: name+hex key id+base64(type | public)."""
        data = base64.b64encode(bytes([self.kind]) + self.public).decode()
        return f"{self.name}+{self.key_id.hex()}+{data}"


def parse_vkey(text: str) -> VerifierKey:
    """Return the key of a vkey line.

    Raises:
        SealError: malformed, an unknown type, or a key id that is not the key's.
    """
    name, _, rest = text.partition("+")
    key_id, _, data = rest.partition("+")
    raw = _base64(data, "vkey")
    if not _is_name(name) or len(raw) != 33 or raw[0] not in (ED25519, COSIGNATURE_V1):
        raise SealError("malformed verifier key", where=text[:80])
    key = VerifierKey(name, raw[0], raw[1:])
    if key.key_id.hex() != key_id:
        raise SealError("a verifier key whose id is not its own", where=text[:80])
    return key


def origin_of(vehicle: str, log: bytes) -> str:
    """Return the origin line of a car's log, which is also the name of its key."""
    return f"{vehicle}/{log.hex()}"


def sign(checkpoint: Checkpoint, key: Ed25519PrivateKey) -> str:
    """Return the note of a checkpoint, signed by the log's own key (its name is the origin)."""
    public = key.public_key().public_bytes_raw()
    verifier = VerifierKey(checkpoint.origin, ED25519, public)
    value = key.sign(checkpoint.body().encode())
    return Note(checkpoint, (Signature(verifier.name, verifier.key_id, value),)).text()


def cosign(note: str, *, name: str, key: Ed25519PrivateKey, unix_s: int) -> str:
    """Return the note with a cosignature/v1 line added.

    Raises:
        SealError: the note is malformed or full.
    """
    parsed = parse(note)
    verifier = VerifierKey(name, COSIGNATURE_V1, key.public_key().public_bytes_raw())
    value = key.sign(_cosigned(parsed.checkpoint, unix_s))
    line = Signature(name, verifier.key_id, unix_s.to_bytes(8, "big") + value)
    text = Note(parsed.checkpoint, (*parsed.signatures, line)).text()
    parse(text)
    return text


def parse(text: str) -> Note:
    """Return the parts of a note.

    Raises:
        SealError: anything that is not exactly one checkpoint with its signature lines.
    """
    if len(text.encode("utf-8", "replace")) > MAX_NOTE_BYTES:
        raise SealError("a checkpoint longer than 16 KiB")
    body, gap, rest = text.partition("\n\n")
    lines = rest.split("\n")
    if not gap or lines[-1] != "" or not 1 <= len(lines) - 1 <= MAX_SIGNATURES:
        raise SealError("a checkpoint without its signature lines")
    return Note(_parse_body(body), tuple(_parse_signature(line) for line in lines[:-1]))


def verify(note: Note, key: VerifierKey) -> int | None:
    """Return whether a key signed this note: its time (0 for type 1), None if it did not.

    Raises:
        SealError: a line of this key whose signature is wrong.
    """
    for line in note.signatures:
        if (line.name, line.key_id) != (key.name, key.key_id):
            continue
        unix_s, value, message = 0, line.value, note.checkpoint.body().encode()
        if key.kind == COSIGNATURE_V1:
            unix_s, value = int.from_bytes(line.value[:8], "big"), line.value[8:]
            message = _cosigned(note.checkpoint, unix_s)
        try:
            Ed25519PublicKey.from_public_bytes(key.public).verify(value, message)
        except (InvalidSignature, ValueError):
            raise SealError(
                f"wrong signature of {key.name}",
                where=f"checkpoint {note.checkpoint.origin} {note.checkpoint.size}",
            ) from None
        return unix_s
    return None


def _cosigned(checkpoint: Checkpoint, unix_s: int) -> bytes:
    return f"cosignature/v1\ntime {unix_s}\n{checkpoint.body()}".encode()


def _parse_body(body: str) -> Checkpoint:
    lines = body.split("\n")
    if len(lines) != 3:
        raise SealError("a checkpoint body of other than three lines")
    origin, size, root = lines
    if not _is_name(origin):
        raise SealError("a checkpoint without an origin")
    # "+1", "01", " 1", other scripts' digits: all numbers to int(), none of them here
    if not size.isascii() or not size.isdigit() or len(size) > 19 or str(int(size)) != size:
        raise SealError("a checkpoint whose size is no number", where=origin)
    hashed = _base64(root, "root")
    if len(hashed) != ROOT_BYTES:
        raise SealError("a checkpoint whose root is not 32 bytes", where=origin)
    return Checkpoint(origin, int(size), hashed)


def _parse_signature(line: str) -> Signature:
    name, _, data = line.removeprefix(_DASH).partition(" ")
    raw = _base64(data, "signature")
    if not line.startswith(_DASH) or not _is_name(name) or len(raw) < _KEY_ID + _SIGNATURE:
        raise SealError("a malformed signature line", where=line[:80])
    return Signature(name, raw[:_KEY_ID], raw[_KEY_ID:])


def _is_name(name: str) -> bool:
    return bool(name) and "+" not in name and name.isprintable() and " " not in name


def _base64(text: str, what: str) -> bytes:
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise SealError(f"{what}: not base64") from None
    if base64.b64encode(raw).decode() != text:  # stray bits in the last letter: one form only
        raise SealError(f"{what}: not canonical base64")
    return raw
