"""The station's store as a source that an opener reads from: one vehicle of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from agent.evidence.selection import Problem, Request, window
from agent.evidence.source import DROP_REASONS, LOST_LOG, Segment, Stored
from agent.station.store import GAP_REASON, Store, translated

REASONS: Final = {GAP_REASON: LOST_LOG, **DROP_REASONS}  # of `drops` in the store


class StoreSource:
    """What a store holds of one vehicle; a `Source`.

    Args:
        store: the station's.
        vehicle: pseudonym.

    Raises:
        ConfigError: no such vehicle.
    """

    def __init__(self, store: Store, vehicle: str) -> None:
        store.enrolled(vehicle, str(store.path))
        self._store, self._vehicle = store, vehicle
        with translated(store.path):
            self._logs: dict[bytes, int] = dict(
                store.connection.execute(
                    "SELECT log_id, log FROM logs WHERE vehicle = ? ORDER BY log", (vehicle,)
                )
            )

    def logs(self) -> list[bytes]:
        """Return the logs, oldest first."""
        return list(self._logs)

    def segments(self, log: bytes, from_ns: int, to_ns: int) -> Iterator[Segment]:
        """Yield the segments of a log whose entries are of these moments."""
        with translated(self._store.path):
            for row in self._store.connection.execute(
                "SELECT i, session, lane FROM entries WHERE log = ? AND kind = 'segment'"
                " AND at_ns BETWEEN ? AND ? ORDER BY i",
                (self._logs[log], from_ns, to_ns),
            ):
                yield Segment(*row)

    def stored(self, log: bytes, index: int) -> Stored:
        """Return an entry."""
        with translated(self._store.path):
            row = self._store.connection.execute(
                "SELECT entry, leaf, body FROM entries WHERE log = ? AND i = ?",
                (self._logs[log], index),
            ).fetchone()
        return Stored(*row)

    def session_index(self, log: bytes, session: bytes) -> int | None:
        """Return the entry with which a session began, None if it has not come."""
        with translated(self._store.path):
            row = self._store.connection.execute(
                "SELECT i FROM sessions WHERE log = ? AND session = ?", (self._logs[log], session)
            ).fetchone()
        return None if row is None else int(row[0])

    def drop_reason(self, log: bytes, index: int) -> str | None:
        """Return why the car dropped the body of an entry, None if no entry says so."""
        with translated(self._store.path):
            row = self._store.connection.execute(
                "SELECT reason FROM drops WHERE log = ? AND ? BETWEEN first AND last LIMIT 1",
                (self._logs[log], index),
            ).fetchone()
        return None if row is None else REASONS.get(row[0], "unspecified")

    def policies(self) -> Iterator[tuple[bytes, bytes]]:
        """Yield (entry, body) of each policy of the vehicle whose body came."""
        with translated(self._store.path):
            yield from self._store.connection.execute(
                "SELECT e.entry, e.body FROM entries e JOIN logs l USING (log)"
                " WHERE l.vehicle = ? AND e.kind = 'policy' AND e.body IS NOT NULL",
                (self._vehicle,),
            )

    def missing(self, request: Request) -> list[Problem]:
        """Return the gaps in what was received of the logs, as far as they touch the request."""
        low, high = window(request)
        with translated(self._store.path):
            gaps = self._store.connection.execute(
                "SELECT log_id, before + 1, i - 1 FROM ("
                " SELECT l.log_id, e.i, e.at_ns, lag(e.i, 1, -1) OVER w AS before,"
                " lag(e.at_ns, 1, 0) OVER w AS before_ns"
                " FROM entries e JOIN logs l USING (log) WHERE l.vehicle = ?"
                " WINDOW w AS (PARTITION BY e.log ORDER BY e.i))"
                " WHERE i - before > 1 AND before_ns <= ? AND at_ns >= ? ORDER BY log_id, i",
                (self._vehicle, high, low),
            ).fetchall()
            # A co-signed head says how many there are, also beyond the last that came.
            ends = self._store.connection.execute(
                "SELECT log_id, last + 1, size - 1 FROM (SELECT l.log_id, max(c.size) AS size,"
                " coalesce((SELECT max(i) FROM entries e WHERE e.log = l.log), -1) AS last,"
                " coalesce((SELECT max(at_ns) FROM entries e WHERE e.log = l.log), 0) AS last_ns"
                " FROM checkpoints c JOIN logs l USING (log) WHERE l.vehicle = ? GROUP BY l.log)"
                " WHERE size > last + 1 AND last_ns <= ?",
                (self._vehicle, high),
            ).fetchall()
        return [
            _not_come(log_id, first, last)
            for log_id, first, last in gaps + ends
            if log_id.hex().startswith(request.log.lower())
        ]


def _not_come(log_id: bytes, first: int, last: int) -> Problem:
    what = f"entry {first}" if first == last else f"entries {first} to {last}"
    return Problem("missing", f"log {log_id.hex()[:16]}", f"{what}: not received")
