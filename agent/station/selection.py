"""Which stored segments a request asks for, and what has not come of the logs they are in.

Segments are chosen by the moment of their ledger entry: it is written when a segment is closed,
after its rows came in. A gap counts if the entries around it could enclose the moments asked for.
"""

from __future__ import annotations

import datetime as dt
import re
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

from agent.errors import ConfigError
from agent.station.store import Store, translated

AFTER_NS: Final = 120 * 10**9  # an entry is written at most this long after its rows came in
FOREVER_NS: Final = (1 << 63) - 1
BEGIN_NS: Final = -(1 << 63)  # before any stamp: a wrapped clock leaves negative ones in a log


def moment_ns(text: str) -> int:
    """Return ns since the Unix epoch of ISO 8601 (UTC if it names no zone) or of Unix seconds.

    Raises:
        ValueError: neither, or before 1970 or after 2262.
    """
    number = re.fullmatch(r"([0-9]{1,10})(?:\.([0-9]{1,9}))?", text)
    if number is not None:
        found = int(number[1]) * 10**9 + int((number[2] or "").ljust(9, "0"))
    else:
        when = dt.datetime.fromisoformat(text)
        when = when if when.tzinfo else when.replace(tzinfo=dt.UTC)
        past = when - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
        found = (past.days * 86_400 + past.seconds) * 10**9 + past.microseconds * 1000
    if not 0 <= found <= FOREVER_NS:
        raise ValueError(f"{text} is out of range")
    return found


class Problem(NamedTuple):
    """Something that could not be opened."""

    kind: Literal["altered", "missing"]
    where: str
    why: str


@dataclass(frozen=True, slots=True)
class Request:
    """What is to be opened.

    Attributes:
        vehicle: pseudonym.
        log: beginning of a log id in hex; empty: all logs.
        from_ns: first moment, ns since the Unix epoch; BEGIN_NS: from the first row on.
        to_ns: last moment, inclusive.
        lanes: sealed_pb2.Lane numbers; empty: all. An event's frames are on the recorder's.
    """

    vehicle: str
    log: str = ""
    from_ns: int = BEGIN_NS
    to_ns: int = FOREVER_NS
    lanes: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Found:
    """A stored segment entry that a request asks for.

    Attributes:
        log: row of the log in the store.
        log_id: 16 bytes.
        index: of the entry in the log.
        session: whose key it has, 16 bytes.
    """

    log: int
    log_id: bytes
    index: int
    session: bytes


def find(store: Store, request: Request) -> list[Found]:
    """Return the segments that a request asks for, in ledger order.

    Raises:
        ConfigError: no such vehicle or log.
    """
    if store.vehicle(request.vehicle) is None:
        raise ConfigError(
            f"no vehicle '{request.vehicle}'", where=str(store.path),
            todo="`inland station ls` lists them",
        )  # fmt: skip
    with translated(store.path):
        logs = [
            (log, log_id)
            for log, log_id in store.connection.execute(
                "SELECT log, log_id FROM logs WHERE vehicle = ? ORDER BY log", (request.vehicle,)
            )
            if log_id.hex().startswith(request.log.lower())
        ]
        if request.log and not logs:
            raise ConfigError(f"no log '{request.log}' of {request.vehicle}", where="--log")
        return [
            Found(log, log_id, index, session)
            for log, log_id in logs
            for index, session, lane in store.connection.execute(
                "SELECT i, session, lane FROM entries WHERE log = ? AND kind = 'segment'"
                " AND at_ns BETWEEN ? AND ? ORDER BY i",
                (log, *_window(request)),
            )
            if not request.lanes or lane in request.lanes
        ]


def missing_entries(store: Store, request: Request) -> list[Problem]:
    """Return the gaps in what was received of the logs, as far as they touch the request."""
    low, high = _window(request)
    with translated(store.path):
        gaps = store.connection.execute(
            "SELECT log_id, before + 1, i - 1 FROM ("
            " SELECT l.log_id, e.i, e.at_ns, lag(e.i, 1, -1) OVER w AS before,"
            " lag(e.at_ns, 1, 0) OVER w AS before_ns"
            " FROM entries e JOIN logs l USING (log) WHERE l.vehicle = ?"
            " WINDOW w AS (PARTITION BY e.log ORDER BY e.i))"
            " WHERE i - before > 1 AND before_ns <= ? AND at_ns >= ? ORDER BY log_id, i",
            (request.vehicle, high, low),
        ).fetchall()
        # A co-signed head says how many there are, also beyond the last that came.
        ends = store.connection.execute(
            "SELECT log_id, last + 1, size - 1 FROM (SELECT l.log_id, max(c.size) AS size,"
            " coalesce((SELECT max(i) FROM entries e WHERE e.log = l.log), -1) AS last,"
            " coalesce((SELECT max(at_ns) FROM entries e WHERE e.log = l.log), 0) AS last_ns"
            " FROM checkpoints c JOIN logs l USING (log) WHERE l.vehicle = ? GROUP BY l.log)"
            " WHERE size > last + 1 AND last_ns <= ?",
            (request.vehicle, high),
        ).fetchall()
    return [
        _not_come(log_id, first, last)
        for log_id, first, last in gaps + ends
        if log_id.hex().startswith(request.log.lower())
    ]


def _window(request: Request) -> tuple[int, int]:
    return request.from_ns, min(request.to_ns + AFTER_NS, FOREVER_NS)


def _not_come(log_id: bytes, first: int, last: int) -> Problem:
    what = f"entry {first}" if first == last else f"entries {first} to {last}"
    return Problem("missing", f"log {log_id.hex()[:16]}", f"{what}: not received")
