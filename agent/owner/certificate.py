"""The certificate of an erasure: what a transfer took out of a car, signed by it. No person. Pure.

One JSON object. Its `signature` is the ledger key's, over "inland/erase/v1", a zero byte and the
other members as JSON with sorted keys and without spaces. It carries the Transfer entry, its
inclusion proof and a signed checkpoint, so that what it says is what the ledger says.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from google.protobuf.message import DecodeError

from agent.enum_names import name_of
from agent.errors import OwnerError, SealError
from agent.pb import ledger_pb2, sealed_pb2
from agent.strict_json import fields, listed, parse_json, text, whole
from agent.vault import checkpoint, keys, tree

FORMAT: Final = "inland erase certificate 1"
MAX_BYTES: Final = 1 << 20
_DOMAIN: Final = b"inland/erase/v1\0"
_KEYS: Final = (
    "format", "region", "vehicle", "log", "from_epoch", "to_epoch", "custody", "unix_s",
    "clock", "erased", "forgotten", "entry", "index", "proof", "checkpoint", "ledger_key",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Proof:
    """Where the ledger says it.

    Attributes:
        log: id of the ledger.
        entry: the Transfer entry as stored.
        index: of it.
        path: its inclusion proof.
        note: a checkpoint that covers it.
    """

    log: bytes
    entry: bytes
    index: int
    path: tuple[bytes, ...]
    note: str


def make(
    *, region: str, vehicle: str, unix_s: int, quality: str, forgotten: Mapping[str, int],
    proof: Proof, key: Ed25519PrivateKey,
) -> str:  # fmt: skip
    """Return the text of a certificate; the rest of it is in the entry."""
    what = ledger_pb2.Entry.FromString(proof.entry).transfer
    values: dict[str, Any] = {
        "format": FORMAT, "region": region, "vehicle": vehicle, "log": proof.log.hex(),
        "from_epoch": what.from_epoch, "to_epoch": what.to_epoch, "custody": what.custody,
        "unix_s": unix_s, "clock": quality, "erased": _erased(what),
        "forgotten": dict(forgotten), "entry": _b64(proof.entry), "index": proof.index,
        "proof": [_b64(one) for one in proof.path], "checkpoint": proof.note,
        "ledger_key": _b64(keys.raw_public(key)),
    }  # fmt: skip
    values["signature"] = _b64(key.sign(_signed(values)))
    return json.dumps(values, indent=1, ensure_ascii=False) + "\n"


def check(data: bytes) -> dict[str, Any]:
    """Return what a certificate says, if it is whole and agrees with itself.

    Raises:
        OwnerError: it is none, or was altered; says what does not fit.
    """
    try:
        values = dict(zip((*_KEYS, "signature"), fields(
            parse_json(data), *_KEYS, "signature"
        ), strict=True))  # fmt: skip
        _check(values)
    except (ValueError, DecodeError) as error:
        raise OwnerError(f"not a whole certificate: {error}") from None
    except SealError as error:
        raise OwnerError(f"its checkpoint is none: {error.what}") from None
    except InvalidSignature:
        raise OwnerError("the car's signature does not fit: it was altered") from None
    return values


def _check(values: dict[str, Any]) -> None:
    if text(values["format"]) != FORMAT:
        raise ValueError(f"its format is {values['format'][:40]!r}")
    public = _raw(values["ledger_key"])
    signed = {name: one for name, one in values.items() if name != "signature"}
    Ed25519PublicKey.from_public_bytes(public).verify(_raw(values["signature"]), _signed(signed))
    log = bytes.fromhex(text(values["log"]))
    note = checkpoint.parse(text(values["checkpoint"]))
    origin = checkpoint.origin_of(text(values["vehicle"]), log)
    mine = checkpoint.VerifierKey(origin, checkpoint.ED25519, public)
    if checkpoint.verify(note, mine) is None:
        raise ValueError("its checkpoint is not signed by the car")
    stored, head = _raw(values["entry"]), note.checkpoint
    path = [_raw(one) for one in listed(values["proof"])]
    index = whole(values["index"])
    if head.origin != origin or not tree.verify_inclusion(
        tree.leaf_hash(stored), index, head.size, path, head.root
    ):
        raise ValueError("its entry is not in the ledger that it shows")
    entry = ledger_pb2.Entry.FromString(stored)
    what = entry.transfer
    said = (values["from_epoch"], values["to_epoch"], values["custody"], values["erased"])
    real = (what.from_epoch, what.to_epoch, what.custody, _erased(what))
    if entry.WhichOneof("what") != "transfer" or entry.index != index or said != real:
        raise ValueError("it does not say what its entry says")


def _erased(what: ledger_pb2.Transfer) -> list[dict[str, Any]]:
    return [
        {
            "lane": name_of(sealed_pb2.Lane, one.lane),
            "recipients": name_of(sealed_pb2.Recipients, one.recipients),
            "bodies": one.bodies, "bytes": one.bytes,
        }
        for one in what.erased
    ]  # fmt: skip


def _signed(values: Mapping[str, Any]) -> bytes:
    return (
        _DOMAIN
        + json.dumps(values, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    )


def _b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _raw(value: object) -> bytes:
    return base64.b64decode(text(value), validate=True)
