"""What is under way to the region, and when it is sent again. Pure: times are arguments.

An entry is in one of these states; only capture knows the entry itself, this knows its identity:

| state | how it gets there | how it leaves |
|---|---|---|
| in flight | `sent` | `acknowledged` (PUBACK): awaiting; `disconnected`: forgotten |
| awaiting | PUBACK | `confirmed` (receipt): forgotten; when due: the hatch gives it again |
| parked | too large; 6 tries; 8 connections ended on it | `confirmed`; after an hour |

Invariant: an entry leaves for good only by `confirmed`, which follows a receipt that capture
verified. A PUBACK frees the window and nothing else. What is forgotten here comes again from the
hatch, in the order of lanes, because capture still has it.

Bounds: 64 packets and 256 KiB in flight (or what the broker allows), 256 entries and 8 MiB
awaiting, 1,024 parked. An entry that is parked is neither lost nor in the way of others.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

from agent.uplink.timing import (
    MAX_AWAITING,
    MAX_AWAITING_BYTES,
    MAX_PACKET_BYTES,
    MAX_PARKED,
    PARK_AFTER_TRIES,
    WINDOW_BYTES,
    WINDOW_PACKETS,
)

PARK_AFTER_FALLS: Final = 8  # connections that ended with this entry first in flight

Key = tuple[bytes, int]  # log, index


@dataclass(slots=True)
class _Entry:
    size: int
    tries: int
    due_s: float


@dataclass(frozen=True, slots=True)
class _Flight:
    key: Key | None  # None: a checkpoint or a question, which nobody confirms
    size: int
    at_s: float


@dataclass(frozen=True, slots=True)
class Ack:
    """The broker's PUBACK of one packet.

    Attributes:
        mid: the packet id that `Link.publish` returned.
        refused: why the broker did not take it; empty if it did.
    """

    mid: int
    refused: str


class Delivery:
    """The states above.

    Args:
        resend_s: an entry without a receipt is due again after this, doubling with each try.
        resend_cap_s: longest such time, and how long an entry stays parked.
    """

    def __init__(self, *, resend_s: float, resend_cap_s: float) -> None:
        self._resend_s, self._resend_cap_s = resend_s, resend_cap_s
        self.window = 0  # packets in flight that the broker takes; 0 without a connection
        self._flights: dict[int, _Flight] = {}
        self._awaiting: dict[Key, _Entry] = {}
        self._parked: dict[Key, float] = {}  # until
        self._falls: dict[Key, int] = {}

    @property
    def in_flight(self) -> int:
        """How many packets the broker has not acknowledged."""
        return len(self._flights)

    @property
    def awaiting(self) -> int:
        """How many entries were published and are not confirmed, parked ones aside."""
        return len(self._awaiting)

    @property
    def parked(self) -> int:
        """How many entries are set aside."""
        return len(self._parked)

    def connected(self, receive_maximum: int) -> None:
        """Begin a connection to a broker that takes so many packets at once."""
        self._flights.clear()
        self.window = max(1, min(WINDOW_PACKETS, receive_maximum))

    def disconnected(self, now_s: float) -> None:
        """Forget what was in flight; what only lacks its receipt is due soon.

        The first entry in flight is the one that the broker may have hung up on: after some such
        falls it is parked.
        """
        flights, self._flights, self.window = self._flights, {}, 0
        keys = [flight.key for flight in flights.values() if flight.key is not None]
        for key in keys:
            self._awaiting.pop(key, None)
        for entry in self._awaiting.values():
            entry.due_s = min(entry.due_s, now_s + self._resend_s)
        if keys:
            falls = self._falls.pop(keys[0], 0) + 1
            self._falls = {keys[0]: falls}
            if falls >= PARK_AFTER_FALLS:
                self._falls.clear()
                self.park(keys[0], now_s)

    def resumed(self, now_s: float) -> None:
        """Go on with a connection that was silent: what was sent then has its time from now on."""
        for mid, flight in self._flights.items():
            self._flights[mid] = replace(flight, at_s=now_s)
        for entry in self._awaiting.values():
            entry.due_s = max(entry.due_s, now_s + self._resend_s)

    def room(self) -> tuple[int, int]:
        """Return how many entries may be sent now, and how many bytes; (0, 0) if none."""
        count = min(self.window - len(self._flights), MAX_AWAITING - len(self._awaiting))
        in_flight = sum(flight.size for flight in self._flights.values())
        awaiting = sum(entry.size for entry in self._awaiting.values())
        size = min(WINDOW_BYTES - in_flight, MAX_AWAITING_BYTES - awaiting, MAX_PACKET_BYTES)
        return (count, size) if count > 0 and size > 0 else (0, 0)

    def has_room(self) -> bool:
        """Return whether a question to the hatch is worth it: half a window, or nothing to do."""
        count, _ = self.room()
        return count > 0 and (2 * count >= self.window or not self._flights)

    def skip(self, now_s: float) -> dict[bytes, list[int]]:
        """Return the entries that the hatch must not give now: indices by log."""
        for key in [key for key, until_s in self._parked.items() if until_s <= now_s]:
            del self._parked[key]
        in_flight = {flight.key for flight in self._flights.values()}
        skip: dict[bytes, list[int]] = {}
        waiting = [
            k for k, entry in self._awaiting.items() if entry.due_s > now_s or k in in_flight
        ]
        for log, index in [*waiting, *self._parked]:
            skip.setdefault(log, []).append(index)
        return skip

    def sent(self, key: Key | None, size: int, mid: int, now_s: float) -> None:
        """Note that an entry (None: something else) was published under an MQTT packet id."""
        self._flights[mid] = _Flight(key, size, now_s)
        if key is None:
            return
        entry = self._awaiting.setdefault(key, _Entry(size, 0, 0.0))
        entry.tries += 1
        wait_s = self._resend_s * 2.0 ** (entry.tries - 1)
        entry.due_s = now_s + min(self._resend_cap_s, wait_s)

    def acknowledged(self, mid: int, now_s: float) -> None:
        """Note a PUBACK, whatever it says: it frees the window."""
        flight = self._flights.pop(mid, None)
        if flight is None or flight.key is None:
            return
        self._falls.pop(flight.key, None)
        entry = self._awaiting.get(flight.key)
        if entry is not None and entry.tries >= PARK_AFTER_TRIES:
            self.park(flight.key, now_s)

    def park(self, key: Key, now_s: float) -> None:
        """Set an entry aside for an hour (resend_cap_s)."""
        self._awaiting.pop(key, None)
        self._parked[key] = now_s + self._resend_cap_s
        if len(self._parked) > MAX_PARKED:
            del self._parked[next(iter(self._parked))]  # it comes again before its hour is over

    def confirmed(self, log: bytes, indices: Iterable[int], now_s: float) -> None:
        """Forget entries whose receipt capture accepted; the region is back, so others are due."""
        for index in indices:
            self._awaiting.pop((log, index), None)
            self._parked.pop((log, index), None)
        for entry in self._awaiting.values():
            entry.due_s = min(entry.due_s, now_s + self._resend_s)

    def stalled_s(self, now_s: float) -> float:
        """Return for how long the oldest packet in flight has had no PUBACK, seconds."""
        return max((now_s - flight.at_s for flight in self._flights.values()), default=0.0)
