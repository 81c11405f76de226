"""Trusted time inside the vault: readings in, moments out, and the floor that survives a restart.

The rules are agent/clock.py's. Safe for the two threads of the vault.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock
from typing import Final

from agent.clock import (
    BUILD_FLOOR_NS,
    REGION,
    Highest,
    Reading,
    Trust,
    highest,
    learn,
    stepped,
    trust_at,
    trusted_ns,
)
from agent.pb.moment_pb2 import ClockQuality, Moment

# A signed time further ahead than this of what we know is a region's mistake, not a clock.
MAX_SIGNED_NS: Final = 2**62  # year 2116


class Timekeeper:
    """What the vault believes of the time.

    Args:
        now: reads the clocks: a Moment of the wall clock and CLOCK_BOOTTIME; its quality is not
            looked at.
        floor_ns: the highest time ever signed, from the spool; 0 if none.
        highest_ns: the highest time ever believed, from the spool; 0 if none.
    """

    def __init__(self, now: Callable[[], Moment], floor_ns: int, highest_ns: int = 0) -> None:
        self._now, self._lock = now, Lock()
        self._seen = self.reading()
        boottime_ns = self._seen.boottime_ns
        self._trust = Trust(max(floor_ns, BUILD_FLOOR_NS), boottime_ns, signed=False)
        self._highest = Highest(highest_ns if highest_ns <= MAX_SIGNED_NS else 0, boottime_ns)

    def reading(self) -> Reading:
        """Look at the clocks."""
        moment = self._now()
        return Reading(moment.unix_ns, moment.boottime_ns)

    def boottime_ns(self) -> int:
        """Return CLOCK_BOOTTIME, ns: for intervals."""
        return self.reading().boottime_ns

    def trusted(self) -> tuple[int, int]:
        """Return (ns since the Unix epoch, clock quality)."""
        with self._lock:
            return trusted_ns(self._trust, self.reading())

    def moment(self) -> Moment:
        """Return now by every clock, for a ledger entry."""
        reading = self.reading()
        with self._lock:
            unix_ns, quality = trusted_ns(self._trust, reading)
        return Moment(
            unix_ns=unix_ns, boottime_ns=reading.boottime_ns, quality=ClockQuality.Name(quality)
        )

    def learn(self, signed_unix_ns: int) -> bool:
        """Take a time that the region signed; returns whether it is later than what was known."""
        if signed_unix_ns > MAX_SIGNED_NS:
            return False
        reading = self.reading()
        with self._lock:
            before, self._trust = self._trust, learn(self._trust, signed_unix_ns, reading)
            return self._trust is not before

    def not_before(self, floor_ns: int) -> None:
        """Raise the floor to what an earlier spool knew; a lower one changes nothing."""
        reading = self.reading()
        with self._lock:
            if not self._trust.signed and floor_ns > trust_at(self._trust, reading):
                self._trust = Trust(floor_ns, reading.boottime_ns, signed=False)

    def floor_ns(self) -> int | None:
        """Return the floor to persist; None while nothing better than the last one is known."""
        unix_ns, quality = self.trusted()
        return unix_ns if quality == REGION else None

    def highest_ns(self) -> int:
        """Return the highest time that was ever believed, ns: by it things end. See agent/clock.py.

        It falls only when the region signs a time.
        """
        reading = self.reading()
        with self._lock:
            self._highest = highest(self._highest, trusted_ns(self._trust, reading), reading)
            return self._highest.unix_ns

    def step(self) -> tuple[int, int] | None:
        """Return (from, to) in ns if the wall clock jumped since the last call, else None."""
        before, self._seen = self._seen, self.reading()
        if not stepped(before, self._seen):
            return None
        expected = before.wall_ns + self._seen.boottime_ns - before.boottime_ns
        return expected, self._seen.wall_ns
