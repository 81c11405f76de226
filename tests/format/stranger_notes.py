"""The other half of the second decoder: tree, checkpoints, co-signatures, receipts, uploads.

Written from proto/FORMAT.md, RFC 6962 and C2SP alone, like stranger.py; imports nothing of the
agent. It holds all entries of a log and hashes them again each time: slow and simple on purpose.
"""

from __future__ import annotations

import hashlib
import sqlite3
from base64 import b64decode
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from tests.format.stranger import check, last, parse, repeated

GENESIS = 10  # field of Entry
OWN, COSIGNATURE = 1, 4  # types of signatures in a note


def root(entries: Sequence[bytes]) -> bytes:
    """Return the root over entries as stored. RFC 6962, 2.1."""
    if not entries:
        return hashlib.sha256(b"").digest()
    if len(entries) == 1:
        return hashlib.sha256(b"\0" + entries[0]).digest()
    k = 1 << (len(entries) - 1).bit_length() - 1
    return hashlib.sha256(b"\1" + root(entries[:k]) + root(entries[k:])).digest()


def inclusion(m: int, entries: Sequence[bytes]) -> list[bytes]:
    """Return PATH(m, D[n]). RFC 6962, 2.1.1."""
    if len(entries) == 1:
        return []
    k = 1 << (len(entries) - 1).bit_length() - 1
    if m < k:
        return [*inclusion(m, entries[:k]), root(entries[k:])]
    return [*inclusion(m - k, entries[k:]), root(entries[:k])]


def consistency(m: int, entries: Sequence[bytes], whole: bool = True) -> list[bytes]:
    """Return PROOF(m, D[n]). RFC 6962, 2.1.2."""
    if m in (0, len(entries)):
        return [] if whole else [root(entries)]
    k = 1 << (len(entries) - 1).bit_length() - 1
    if m <= k:
        return [*consistency(m, entries[:k], whole), root(entries[k:])]
    return [*consistency(m - k, entries[k:], False), root(entries[:k])]


def signed_by(public: bytes, signature: bytes, message: bytes) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
    except InvalidSignature:
        return False
    return True


class Head(NamedTuple):
    """What a checkpoint says, and when a witness saw it (s since 1970; 0 for the log's own key)."""

    origin: str
    size: int
    root: bytes
    time: int


def head(note: str, name: str, public: bytes, kind: int) -> Head:
    """Return the checkpoint in a note that this key signed or co-signed."""
    body, _, lines = note.partition("\n\n")
    key_id = hashlib.sha256(name.encode() + b"\n" + bytes([kind]) + public).digest()[:4]
    signatures = (line.rsplit(" ", 1) for line in lines.splitlines())
    mine = [b64decode(value) for who, value in signatures if who == f"\N{EM DASH} {name}"]
    found = [value[4:] for value in mine if value[:4] == key_id]
    check(len(found) == 1, f"one signature of {name}")
    message, signature, time = f"{body}\n", found[0], 0
    if kind == COSIGNATURE:
        time, signature = int.from_bytes(signature[:8], "big"), signature[8:]
        message = f"cosignature/v1\ntime {time}\n{message}"
    check(signed_by(public, signature, message.encode()), f"signature of {name}")
    origin, size, root_text = body.split("\n")
    return Head(origin, int(size), b64decode(root_text), time)


def verifier_key(text: str) -> tuple[str, int, bytes]:
    """Return (name, type, Ed25519 public) of a C2SP verifier key."""
    name, key_id, data = text.split("+", 2)
    raw = b64decode(data)
    named = hashlib.sha256(name.encode() + b"\n" + raw).digest()[:4]
    check(len(raw) == 33 and key_id == named.hex(), "verifier key")
    return name, raw[0], raw[1:]


def check_log(path: Path, witness: str) -> tuple[list[bytes], list[Head]]:
    """Return the entries of a spool and the heads that car and region signed of them, checked."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as spool:
        entries = [row[0] for row in spool.execute("SELECT entry FROM ledger ORDER BY i")]
        notes = list(spool.execute("SELECT size, note, cosigned FROM checkpoint ORDER BY size"))
    check([last(parse(e), 1, 0) for e in entries] == list(range(len(entries))), "entries in order")
    genesis = parse(last(parse(entries[0]), GENESIS, b""))
    origin = f"{last(genesis, 2, b'').decode()}/{last(genesis, 3, b'').hex()}"
    name, kind, public = verifier_key(witness)
    heads = []
    for size, note, cosigned in notes:
        check(size <= len(entries), "size of a head")
        signed = [head(note, origin, last(genesis, 4, b""), OWN)]
        signed += [head(cosigned, name, public, kind)] if cosigned is not None else []
        for each in signed:
            check(each[:3] == (origin, size, root(entries[:size])), "root of a head")
        heads += signed
    return entries, heads


def check_receipt(payload: bytes, publics: Mapping[bytes, bytes], entries: Sequence[bytes]) -> int:
    """Check a SignedReceipt against the entries it confirms; return the region's time, ns."""
    signed = parse(payload)
    data, kid = last(signed, 1, b""), last(signed, 2, b"")
    check(kid in publics and hashlib.sha256(publics[kid]).digest()[:8] == kid, "key of a receipt")
    message = b"inland/receipt/1\0" + data
    check(signed_by(publics[kid], last(signed, 3, b""), message), "signature of a receipt")
    receipt = parse(data)
    for index, leaf in zip(repeated(receipt, 3), receipt.get(4, []), strict=True):
        check(index < len(entries) and root([entries[index]]) == leaf, "leaf of a receipt")
    return int(last(receipt, 5, 0))
