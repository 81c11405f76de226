"""Whether an upload is what it says it is. Pure: bytes in, an `Arrival` out, or `RefusedError`.

Rules, all of them before anything is stored:
- the vehicle comes from the topic (the broker's ACL vouches for it), never from the payload;
- the entry parses, and its index is the one that the upload names;
- the body has the hash that the entry names; an entry that names none has no body;
- a sealed body's header names the same log, index, session, vehicle and region: a body cannot be
  moved to another place;
- entry 0, and only entry 0, is the genesis, and it carries the enrolled ledger key;
- an entry of a kind that this station does not know is refused: its body could not be checked, and
  a receipt would let the car delete it. It stays in the car until the station is updated.

A missing body is not refused: the car may have dropped it. `agent/station/store.py` decides when
such an entry may be receipted.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final, NamedTuple

from google.protobuf.message import DecodeError

from agent.pb import delivery_pb2, ledger_pb2, sealed_pb2
from agent.vault.tree import leaf_hash

LANES: Final = ("session", "incident", "event", "routine")
CHECKPOINT: Final = "checkpoint"
POLICY: Final = "policy"  # a question about a policy bundle
MAX_INDEX: Final = 1 << 48  # a car that writes 1,000 entries/s for 8,900 years
MAX_NS: Final = (1 << 63) - 1
MAX_RANGES: Final = 4096  # of one drop entry; a packet holds fewer
BODIES: Final = ("session", "segment", "policy")  # kinds of entries that may name one
SEALED: Final = ("session", "segment")
SESSION_MAGIC: Final = b"iSE1"
SEGMENT_MAGIC: Final = b"iSG1"


class RefusedError(ValueError):
    """An upload that is not what it says it is.

    Args:
        code: stable reason, for counters and tests.
        detail: what was seen; no payload.
    """

    def __init__(self, code: str, detail: str = "") -> None:
        super().__init__(f"{code}: {detail}" if detail else code)
        self.code, self.detail = code, detail


class Topic(NamedTuple):
    """The two levels of an upload's topic that say something."""

    vehicle: str
    lane: str


@dataclass(frozen=True, slots=True)
class Vehicle:
    """An enrolled car.

    Attributes:
        name: its pseudonym.
        ledger_key: Ed25519 public key, 32 bytes.
        group: vehicles of one group are offered the same policies.
    """

    name: str
    ledger_key: bytes
    group: str = "default"


@dataclass(frozen=True, slots=True)
class Arrival:
    """An upload that has been examined.

    Attributes:
        vehicle: pseudonym.
        log: 16 bytes.
        index: of the entry in the log.
        kind: name of the entry's field, e.g. "segment".
        at_ns: the car's moment, ns since the Unix epoch.
        session: 16 bytes for a session or a segment, else None.
        lane: of a segment, else None.
        leaf: RFC 6962 leaf hash, 32 bytes.
        entry: as received.
        body: as received; None if the entry names none or it did not come.
        names_body: the entry names one.
        owes_body: the car is to upload it; not so for the recorder's segments, whose bodies stay in
            the car until an event asks for them.
        drops: (first, last, reason) of a drop entry.
        lost_log: the log before, which a gap entry says could not be continued, else None.
    """

    vehicle: str
    log: bytes
    index: int
    kind: str
    at_ns: int
    session: bytes | None
    lane: int | None
    leaf: bytes
    entry: bytes
    body: bytes | None
    names_body: bool
    owes_body: bool
    drops: tuple[tuple[int, int, int], ...]
    lost_log: bytes | None


def parse_topic(topic: str, region_id: str) -> Topic:
    """Return vehicle and lane of `inland/1/<region>/up/<vehicle>/<lane>`.

    Raises:
        RefusedError: another topic.
    """
    levels = topic.split("/")
    if len(levels) != 6 or levels[:4] != ["inland", "1", region_id, "up"]:
        raise RefusedError("topic", topic[:80])
    if levels[5] not in (*LANES, CHECKPOINT, POLICY):
        raise RefusedError("lane", levels[5][:20])
    return Topic(levels[4], levels[5])


def examine(payload: bytes, vehicle: Vehicle, region: str) -> Arrival:
    """Return the entry that an upload carries.

    Args:
        payload: an Upload, as received.
        vehicle: the enrolled car of the topic.
        region: urn:inland:region:<id>.

    Raises:
        RefusedError: see the rules above.
    """
    upload, entry = _parse(payload)
    kind = entry.WhichOneof("what")
    if kind is None:
        raise RefusedError("unknown-kind", f"entry {upload.index}: update this station")
    if (upload.index == 0) != (kind == "genesis"):
        raise RefusedError("genesis-place", f"{kind} at entry {upload.index}")
    if kind == "genesis":
        _check_genesis(entry.genesis, upload.log, vehicle, region)
    what = getattr(entry, kind)
    if kind in SEALED and len(what.session) != 16:
        raise RefusedError("malformed", f"session of {len(what.session)} bytes")
    names_body = owes_body = kind in BODIES and bool(what.body)
    if kind == "segment" and what.lane == sealed_pb2.RECORDER:
        owes_body = False
    if upload.body:
        _check_body(upload, entry, vehicle, region)
    return Arrival(
        vehicle=vehicle.name,
        log=upload.log,
        index=upload.index,
        kind=kind,
        at_ns=min(entry.at.unix_ns, MAX_NS),
        session=what.session if kind in SEALED else None,
        lane=int(what.lane) if kind == "segment" else None,
        leaf=leaf_hash(upload.entry),
        entry=upload.entry,
        body=upload.body or None,
        names_body=names_body,
        owes_body=owes_body,
        drops=_drops(what, upload.index) if kind == "drop" else (),
        lost_log=what.log if kind == "gap" and len(what.log) == 16 else None,
    )


def _parse(payload: bytes) -> tuple[delivery_pb2.Upload, ledger_pb2.Entry]:
    try:
        upload = delivery_pb2.Upload.FromString(payload)
        entry = ledger_pb2.Entry.FromString(upload.entry)
    except DecodeError:
        raise RefusedError("malformed", f"{len(payload)} bytes") from None
    if len(upload.log) != 16:
        raise RefusedError("malformed", f"log of {len(upload.log)} bytes")
    if not upload.entry or upload.index > MAX_INDEX:
        raise RefusedError("malformed", f"entry {upload.index}")
    if entry.index != upload.index:
        raise RefusedError("index", f"entry {entry.index} sent as {upload.index}")
    return upload, entry


def _check_genesis(genesis: ledger_pb2.Genesis, log: bytes, vehicle: Vehicle, region: str) -> None:
    if genesis.ledger_key != vehicle.ledger_key:
        raise RefusedError("ledger-key", f"log {log.hex()} has a key that was not enrolled")
    if (genesis.region, genesis.vehicle, genesis.log) != (region, vehicle.name, log):
        raise RefusedError("genesis", f"log {log.hex()} is of another car, region or log")


def _check_body(
    upload: delivery_pb2.Upload, entry: ledger_pb2.Entry, vehicle: Vehicle, region: str
) -> None:
    kind = entry.WhichOneof("what")
    what = getattr(entry, str(kind))
    named = what.body if kind in BODIES else b""
    if hashlib.sha256(upload.body).digest() != named:
        raise RefusedError("body-hash", f"entry {upload.index} ({kind})")
    if isinstance(what, ledger_pb2.PolicyInForce):
        return
    header = sealed_header(upload.body)
    expected = sealed_pb2.SessionHeader if kind == "session" else sealed_pb2.SegmentHeader
    if not isinstance(header, expected):
        raise RefusedError("header", f"entry {upload.index} is no sealed {kind}")
    place = (header.log, header.index, header.session)
    if place != (upload.log, upload.index, what.session):
        raise RefusedError("header", f"entry {upload.index} carries a body of another place")
    if isinstance(header, sealed_pb2.SessionHeader):
        if (header.vehicle, header.region) != (vehicle.name, region):
            raise RefusedError("header", f"entry {upload.index} is of another car or region")
    elif isinstance(what, ledger_pb2.SegmentSealed) and header.lane != what.lane:
        raise RefusedError("header", f"entry {upload.index} is of another lane")


def sealed_header(body: bytes) -> sealed_pb2.SessionHeader | sealed_pb2.SegmentHeader:
    """Return the header of a sealed session or segment: magic, u16 length, header.

    Raises:
        RefusedError: it is neither, or is cut off.
    """
    end = 6 + int.from_bytes(body[4:6], "big")
    if len(body) < end or len(body) < 6:
        raise RefusedError("header", "cut off")
    try:
        if body[:4] == SESSION_MAGIC:
            return sealed_pb2.SessionHeader.FromString(body[6:end])
        if body[:4] == SEGMENT_MAGIC:
            return sealed_pb2.SegmentHeader.FromString(body[6:end])
    except DecodeError:
        raise RefusedError("header", "malformed") from None
    raise RefusedError("header", "not sealed by inland")


def _drops(drop: ledger_pb2.Drop, index: int) -> tuple[tuple[int, int, int], ...]:
    if len(drop.range) > MAX_RANGES:
        raise RefusedError("drop", f"{len(drop.range)} ranges")
    for part in drop.range:
        if not part.first <= part.last < index:  # a drop speaks of what came before it
            raise RefusedError("drop", f"entries {part.first} to {part.last} in entry {index}")
    return tuple((part.first, part.last, int(drop.reason)) for part in drop.range)
