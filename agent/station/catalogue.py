"""What the station holds, for `inland station ls`: nothing is opened, so frames are not counted."""

from __future__ import annotations

from typing import Any, Final

from agent.pb import ledger_pb2
from agent.station.source import REASONS
from agent.station.store import Store, translated

MAX_GAPS: Final = 20  # shown of one log


def catalogue(store: Store) -> dict[str, Any]:
    """Return vehicles with their logs, refusals and alarms, ready for JSON.

    Moments are ns since the Unix epoch by the car's ledger; `checkpoint.at_ns` is the station's.

    Raises:
        SpoolError: the store cannot be read.
    """
    with translated(store.path):
        connection = store.connection
        connection.execute("BEGIN")  # one moment for all that follows
        try:
            vehicles = [
                {"vehicle": name, "enrolled_s": enrolled, "logs": _logs(store, name)}
                for name, enrolled in connection.execute(
                    "SELECT vehicle, enrolled_s FROM vehicles ORDER BY vehicle"
                ).fetchall()
            ]
            return {
                "vehicles": vehicles,
                "refusals": _rows(store, "SELECT * FROM refusals ORDER BY vehicle, code"),
                "alarms": _rows(store, "SELECT * FROM alarms ORDER BY alarm"),
            }
        finally:
            connection.execute("COMMIT")


def _logs(store: Store, vehicle: str) -> list[dict[str, Any]]:
    rows = store.connection.execute(
        "SELECT log, log_id FROM logs WHERE vehicle = ? ORDER BY log", (vehicle,)
    ).fetchall()
    return [{"log": log_id.hex(), **_log(store, log)} for log, log_id in rows]


def _log(store: Store, log: int) -> dict[str, Any]:
    connection = store.connection
    entries, last, from_ns, to_ns, stored = connection.execute(
        "SELECT count(*), max(i), min(at_ns), max(at_ns), sum(length(body)) FROM entries"
        " WHERE log = ?",
        (log,),
    ).fetchone()
    kinds = dict(
        connection.execute("SELECT kind, count(*) FROM entries WHERE log = ? GROUP BY kind", (log,))
    )
    head = connection.execute(
        "SELECT size, at_ns FROM checkpoints WHERE log = ? ORDER BY size DESC LIMIT 1", (log,)
    ).fetchone()
    conflicts = connection.execute("SELECT count(*) FROM conflicts WHERE log = ?", (log,))
    return {
        "entries": entries,
        "kinds": kinds,
        "segments": kinds.get("segment", 0),
        "body_bytes": stored or 0,
        "from_ns": from_ns,
        "to_ns": to_ns,
        "missing": _missing(store, log, last, head[0] if head else 0),
        "losses": _losses(store, log),
        "drops": _drops(store, log),
        "conflicts": conflicts.fetchone()[0],
        "checkpoint": {"size": head[0], "at_ns": head[1]} if head else None,
    }


def _missing(store: Store, log: int, last: int | None, size: int) -> list[list[int]]:
    """Return ranges of entries that have not come, at most 20."""
    gaps = [
        list(row)
        for row in store.connection.execute(
            "SELECT before + 1, i - 1 FROM (SELECT i, lag(i, 1, -1) OVER (ORDER BY i) AS before"
            " FROM entries WHERE log = ?) WHERE i - before > 1 LIMIT ?",
            (log, MAX_GAPS),
        )
    ]
    end = -1 if last is None else last
    return gaps + ([[end + 1, size - 1]] if size > end + 1 else [])


def _losses(store: Store, log: int) -> int:
    """Return the frames that the car says it wanted but lacks."""
    rows = store.connection.execute(
        "SELECT entry FROM entries WHERE log = ? AND kind = 'loss'", (log,)
    )
    return sum(ledger_pb2.Entry.FromString(entry).loss.count for (entry,) in rows)


def _drops(store: Store, log: int) -> dict[str, int]:
    """Return the bodies that the car dropped and that are not here, by its reason."""
    rows = store.connection.execute(
        "SELECT d.reason, count(DISTINCT e.i) FROM drops d JOIN entries e"
        " ON e.log = d.log AND e.i BETWEEN d.first AND d.last"
        " WHERE d.log = ? AND e.body IS NULL AND e.kind IN ('session', 'segment', 'policy')"
        " GROUP BY d.reason",
        (log,),
    )
    return {REASONS.get(reason, "unspecified"): count for reason, count in rows}


def _rows(store: Store, query: str) -> list[dict[str, Any]]:
    cursor = store.connection.execute(query)
    names = [column[0] for column in cursor.description]
    return [dict(zip(names, row, strict=True)) for row in cursor]
