"""A drive of the simulated car through real parts, and its ledger as an opener's source."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

from agent.evidence.opening import Opened, open_segments
from agent.evidence.selection import Problem, Request, find
from agent.evidence.source import Segment, Stored
from agent.owner.chronicle import Bodies
from agent.owner.gather import Held, gather
from agent.owner.page.story import Cosigned, Story, Verdict
from agent.pb import ledger_pb2
from agent.vault import keys, tree
from tests.evidence import making
from tests.test_scenarios import Drive, fleet, log_of
from tests.vault import world

HOLD = ('before = "30min", after = "30s"', 'before = "15s", after = "10s"')
INTACT = Verdict("intact")


class Ledger:
    """A spool file as a source: what a bundle of the whole car would hold."""

    def __init__(self, spool: Path) -> None:
        connection = sqlite3.connect(f"file:{spool}?mode=ro", uri=True)
        self.raw: dict[int, bytes] = dict(connection.execute("SELECT i, entry FROM ledger"))
        self.bodies: dict[int, bytes] = dict(connection.execute("SELECT i, blob FROM body"))
        connection.close()
        self.entries = {i: ledger_pb2.Entry.FromString(raw) for i, raw in sorted(self.raw.items())}
        self.log = self.entries[0].genesis.log

    def logs(self) -> list[bytes]:
        return [self.log]

    def segments(self, log: bytes, from_ns: int, to_ns: int) -> Iterator[Segment]:
        for i, entry in self.entries.items():
            if entry.HasField("segment") and from_ns <= entry.at.unix_ns <= to_ns:
                yield Segment(i, entry.segment.session, entry.segment.lane)

    def stored(self, log: bytes, index: int) -> Stored:
        raw = self.raw[index]
        return Stored(raw, tree.leaf_hash(raw), self.bodies.get(index))

    def session_index(self, log: bytes, session: bytes) -> int | None:
        for i, entry in self.entries.items():
            if entry.HasField("session") and entry.session.session == session:
                return i
        return None

    def drop_reason(self, log: bytes, index: int) -> str | None:
        for entry in self.entries.values():
            if any(part.first <= index <= part.last for part in entry.drop.range):
                return ledger_pb2.Drop.Reason.Name(entry.drop.reason).lower()
        return None

    def policies(self) -> Iterator[tuple[bytes, bytes]]:
        for i, entry in self.entries.items():
            if entry.HasField("policy") and i in self.bodies:
                yield self.raw[i], self.bodies[i]

    def missing(self, request: Request) -> list[Problem]:
        return []

    def open(self, request: Request | None = None) -> Opened:
        request = request or Request(self.entries[0].genesis.vehicle)
        return open_segments(self, find(self, request), request, world.PRIVATES)

    def story(self, opened: Opened, verdict: Verdict = INTACT, **more: object) -> Story:
        held = Held(
            entries=[(self.log, entry) for entry in self.entries.values()],
            bodies=Bodies(lambda _, i: i in self.bodies, (), self.drop_reason),
            policies=[body for _, body in self.policies()], verdict=verdict,
            cosigned=[Cosigned(self.log.hex()[:16], len(self.raw), 1_790_000_000 * 10**9)],
            epochs=[1],
        )  # fmt: skip
        fields: dict[str, object] = {
            "begin_ns": -(1 << 63), "end_ns": (1 << 63) - 1, "made_ns": 1_790_000_000 * 10**9,
        }  # fmt: skip
        return gather(held, opened, **(fields | more))  # type: ignore[arg-type]


def hard_brake(
    folder: Path, *changes: tuple[str, str], owner: bytes | None = None
) -> tuple[Drive, Ledger]:
    """45 s of driving, a hard brake after 20 s, under the China fleet's policy.

    Args:
        folder: to work in.
        changes: of the policy's text.
        owner: private key of whoever is enrolled as the owner.
    """
    enrolled = world.OWNER if owner is None else (owner, keys.public_of(owner))
    with mock.patch.object(world, "OWNER", enrolled):
        drive = Drive(folder, fleet(HOLD, *changes))
    frames = log_of(folder, "hard-brake", 45, "--brake-at", "20", channels=drive)
    frames["timestamp_ns"] += drive.unix_ns - int(frames["timestamp_ns"][0])  # today's, for once
    for _ in drive.play(frames):
        pass
    drive.stand(2)
    drive.vault.close(clean=True)
    return drive, Ledger(folder / "state" / "spool" / "spool.db")


def bundle(ledger: Ledger, folder: Path, *, cosigned: bool = True) -> Path:
    """A bundle of all that a ledger has."""
    genesis = ledger.entries[0].genesis
    car = making.Ledger(genesis.vehicle, genesis.region, world.LEDGER, genesis.log)
    car.entries = list(ledger.raw.values())
    car.bodies = [ledger.bodies.get(i, b"") for i in ledger.raw]
    car.sign(cosigned=cosigned, key=world.LEDGER)
    return making.make(folder, car)
