"""Where an entry stands on its way through the spool, and how many stand where.

A row of `item` says: entry `i` stands on shelf `shelf`, with `bytes` of body still in the car.

| shelf | entry | body | leaves it by |
|---|---|---|---|
| SESSION | to upload, first | sessions and policies; others have none | receipt |
| INCIDENT, EVENT, ROUTINE | to upload | to upload | receipt, eviction, expiry |
| RECORDER | to upload, without its body | stays in the car | receipt, eviction, rolling, a hold |
| LOCKED | to upload, without its body | held by an event, stays | receipt, eviction, expiry |
| HOLLOW | to upload, last | gone, and a drop entry says why | receipt |
| HELD | confirmed | recorder's, stays in the car | eviction, rolling, a hold |
| CONFIRMED | confirmed | confirmed, kept while there is room | eviction, expiry |
| PINNED | confirmed | sessions and policies, kept while something needs them | sweep |
| KEPT | confirmed | held by an event, stays in the car | eviction, expiry |

Below HELD an entry waits for the region; a body that nobody waits for is above it. An entry that
is confirmed and has no body stands nowhere: the ledger alone has it.

A hold takes segments of the recorder to INCIDENT if they are wanted at the region, else to LOCKED
or KEPT. What was confirmed without its body waits again for it then.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum
from threading import Lock
from typing import Final

from agent.pb import ledger_pb2, sealed_pb2


class Shelf(IntEnum):
    """The numbers are in the database: append only."""

    SESSION = 0
    INCIDENT = 1
    EVENT = 2
    ROUTINE = 3
    RECORDER = 4
    HOLLOW = 5
    LOCKED = 6
    HELD = 8
    CONFIRMED = 9
    PINNED = 10
    KEPT = 11


WAITING: Final = (
    Shelf.SESSION, Shelf.INCIDENT, Shelf.EVENT, Shelf.ROUTINE, Shelf.LOCKED, Shelf.RECORDER,
    Shelf.HOLLOW,
)  # fmt: skip
# Their entries go without a body, whether or not the car has one.
BODILESS: Final = frozenset({Shelf.LOCKED, Shelf.RECORDER, Shelf.HOLLOW})
# Bodies of incidents that the region does not have: they share one quota and give way to nothing.
INCIDENTS: Final = (Shelf.INCIDENT, Shelf.LOCKED, Shelf.KEPT)

BY_LANE: Final = {
    sealed_pb2.INCIDENT: Shelf.INCIDENT,
    sealed_pb2.EVENT: Shelf.EVENT,
    sealed_pb2.ROUTINE: Shelf.ROUTINE,
    sealed_pb2.RECORDER: Shelf.RECORDER,
}

# The last level of the topic. Segments that go without their body are in no hurry: an hour of them
# must not stand before an incident.
TOPIC: Final = {
    Shelf.SESSION: "session",
    Shelf.INCIDENT: "incident",
    Shelf.EVENT: "event",
    Shelf.ROUTINE: "routine",
    Shelf.LOCKED: "routine",
    Shelf.RECORDER: "routine",
    Shelf.HOLLOW: "routine",
}

# Least urgent first; what comes in evicts nothing that is more urgent than itself. INCIDENT stands
# for all of INCIDENTS.
_EVICTION: Final = (
    Shelf.CONFIRMED, Shelf.HELD, Shelf.RECORDER, Shelf.ROUTINE, Shelf.EVENT, Shelf.INCIDENT,
)  # fmt: skip


def evictable_for(shelf: Shelf) -> tuple[Shelf, ...]:
    """Return which shelves may lose bodies for one that comes in, in order.

    Entries of the ledger (SESSION) may take from all: the ledger always goes on.
    """
    last = Shelf.INCIDENT if shelf == Shelf.SESSION or shelf in INCIDENTS else shelf
    return _EVICTION[: _EVICTION.index(last) + 1]


def confirmed_shelf(shelf: Shelf) -> Shelf:
    """Return where a body goes once the region has confirmed its entry."""
    if shelf == Shelf.SESSION:
        return Shelf.PINNED
    return {Shelf.RECORDER: Shelf.HELD, Shelf.LOCKED: Shelf.KEPT}.get(shelf, Shelf.CONFIRMED)


def held_shelf(shelf: Shelf, *, upload: bool) -> Shelf:
    """Return where a segment of the recorder goes that an event holds.

    What is with the region, body and all, stays where it is.
    """
    if shelf in (Shelf.INCIDENT, Shelf.CONFIRMED):
        return shelf
    if upload:
        return Shelf.INCIDENT
    return {Shelf.RECORDER: Shelf.LOCKED, Shelf.HELD: Shelf.KEPT}.get(shelf, shelf)


def reason_for(shelf: Shelf) -> ledger_pb2.Drop.Reason:
    """Return why a body of this shelf is evicted when room is needed."""
    if shelf in (Shelf.CONFIRMED, Shelf.PINNED):
        return ledger_pb2.Drop.CONFIRMED
    return ledger_pb2.Drop.QUOTA


def ranges(indices: Iterable[int]) -> list[ledger_pb2.Range]:
    """Return indices as inclusive ranges, ascending."""
    out: list[ledger_pb2.Range] = []
    for i in sorted(set(indices)):
        if out and out[-1].last == i - 1:
            out[-1].last = i
        else:
            out.append(ledger_pb2.Range(first=i, last=i))
    return out


class Tally:
    """How many entries and bytes of body stand on each shelf; kept, so that nothing is counted."""

    def __init__(self) -> None:
        self._lock = Lock()
        self.entries = dict.fromkeys(Shelf, 0)
        self.bytes = dict.fromkeys(Shelf, 0)
        self.salvaged = 0

    def apply(self, moves: list[tuple[Shelf, int, int]], salvaged: int) -> None:
        """Add the moves (shelf, entries, bytes) of a committed transaction."""
        with self._lock:
            for shelf, entries, size in moves:
                self.entries[shelf] += entries
                self.bytes[shelf] += size
            self.salvaged += salvaged

    def waiting(self) -> int:
        """Return how many entries the region has not confirmed."""
        return sum(self.entries[shelf] for shelf in WAITING) + self.salvaged
