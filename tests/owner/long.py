"""A spool file of a long log: right hashes, tiles and signatures; opaque bodies; quickly made."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

from agent.pb import ledger_pb2, sealed_pb2
from agent.vault import checkpoint, schema, tree
from tests.evidence.making import COSIGN_KEY, LEDGER_KEY, REGION, START_NS, VEHICLE, WITNESS
from tests.station.car import Car

LOG = bytes(range(16))
STEP_NS = 125_000_000  # eight segments a second
TILE = 256


def make_spool(state: Path, count: int, *, body_bytes: int = 64) -> None:
    """Write a spool of so many entries: a genesis, a session, and segments of nobody's content."""
    path = state / "spool" / "spool.db"
    path.parent.mkdir(parents=True)
    schema.migrate(path)
    base = sqlite3.connect(path)
    base.execute("PRAGMA synchronous=OFF")
    grown, level = tree.CompactRange(), []
    with base:
        base.execute("INSERT INTO meta VALUES('log', ?)", (LOG,))
        for index, entry, body in _rows(count, body_bytes):
            base.execute("INSERT INTO ledger VALUES(?,?)", (index, entry))
            if body:
                base.execute("INSERT INTO body VALUES(?,?)", (index, body))
            leaf = tree.leaf_hash(entry)
            grown, _ = grown.append(leaf)
            level.append(leaf)
        _tiles(base, level)
        origin = checkpoint.origin_of(VEHICLE, LOG)
        note = checkpoint.sign(checkpoint.Checkpoint(origin, count, grown.root()), LEDGER_KEY)
        seen = checkpoint.cosign(note, name=WITNESS.name, key=COSIGN_KEY, unix_s=START_NS // 10**9)
        base.execute("INSERT INTO checkpoint VALUES(?,?,?)", (count, note, seen))
    base.close()


def _rows(count: int, body_bytes: int) -> Iterator[tuple[int, bytes, bytes]]:
    car = Car(VEHICLE, REGION, LEDGER_KEY, LOG)
    car.genesis()
    car.begin(sealed_pb2.SHARED)
    yield from zip((0, 1), car.entries, car.bodies, strict=True)
    payload, end = bytes(body_bytes), ledger_pb2.Entry()
    for index in range(2, count):
        header = sealed_pb2.SegmentHeader(
            log=LOG, index=index, session=car.session, epoch=1, lane=2
        )
        head = header.SerializeToString()
        body = b"iSG1" + len(head).to_bytes(2, "big") + head + payload
        end.index, end.at.unix_ns = index, START_NS + index * STEP_NS
        end.segment.body, end.segment.session = tree.sha256(body), car.session
        end.segment.plain, end.segment.lane, end.segment.bytes = bytes(32), 2, len(body)
        yield index, end.SerializeToString(), body


def _tiles(base: sqlite3.Connection, level: list[bytes]) -> None:
    number = 0
    while len(level) >= TILE:
        above = []
        for at in range(0, len(level) // TILE * TILE, TILE):
            grown = tree.CompactRange()
            for leaf in level[at : at + TILE]:
                grown, _ = grown.append(leaf)
            base.execute("INSERT INTO tile VALUES(?,?,?)", (number, at // TILE, grown.root()))
            above.append(grown.root())
        level, number = above, number + 1
