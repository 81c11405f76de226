"""What the station holds: vehicles, logs, entries once by (vehicle, log, index), sessions, alarms.

- An identity is stored once. The same identity with another hash is a conflict: recorded with an
  alarm, never receipted, and nothing is overwritten (a restored spool file, or a forgery).
- A batch is one transaction, durable when `commit` returns (WAL, synchronous FULL).
- Only what may be forgotten by the car is receipted. Not yet: a segment whose session entry is not
  here (nobody could open it), and an entry whose body did not come and that no drop entry explains
  (a broken link must not be able to strip bodies; a gap entry explains what was salvaged of a
  damaged log). Both are stored and wait for the rest.
- A body that comes later (of the recorder, when an event has asked for it) fills the entry once:
  its hash is the one that the entry names, so there is no other to overwrite it with.

One `Store` belongs to one thread. Times are arguments.
"""

from __future__ import annotations

import enum
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from agent.errors import ConfigError, SpoolError
from agent.station.examine import MAX_INDEX, Arrival, Vehicle

SCHEMA_VERSION: Final = 3
BUSY_S: Final = 30.0  # `enroll` and `open` write beside a running `serve`
MAX_REFUSALS: Final = 10_000  # rows; beyond that they are counted under one name
OTHERS: Final = "(others)"
MAX_CONFLICTS: Final = 1000  # rows a log: enough for a person to see what happened
MAX_CACHED: Final = 100_000  # known logs and sessions kept in memory


GAP_REASON: Final = -1  # in `drops`, beside ledger_pb2.Drop.Reason: the log itself was lost


class Outcome(enum.Enum):
    """What became of one arrival; the first two are receipted."""

    STORED = "stored"
    DUPLICATE = "duplicate"
    CONFLICT = "conflict"
    NO_SESSION = "no-session"
    NO_BODY = "no-body"


RECEIPTED: Final = frozenset({Outcome.STORED, Outcome.DUPLICATE})


@contextmanager
def translated(where: Path) -> Iterator[None]:
    """Turn errors of SQLite into one that says which file; storage errors are never retried."""
    try:
        yield
    except sqlite3.Error as error:
        raise SpoolError(f"the store cannot be used: {error}", where=str(where)) from error


class Store:
    """The station's database, for one thread.

    Args:
        path: the database file; made if it is not there.

    Raises:
        SpoolError: it cannot be opened, or a newer version wrote it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._logs: dict[tuple[str, bytes], int] = {}
        self._sessions: set[tuple[int, bytes]] = set()
        try:
            path.touch(mode=0o600)  # SQLite gives the files beside it the same mode
        except OSError as error:
            raise SpoolError(f"cannot be written: {error.strerror}", where=str(path)) from None
        with translated(path):
            self.connection = sqlite3.connect(path, isolation_level=None, timeout=BUSY_S)
            for pragma in ("journal_mode = WAL", "synchronous = FULL", "trusted_schema = OFF"):
                self.connection.execute(f"PRAGMA {pragma}")
            self._migrate()

    def _migrate(self) -> None:
        version = self.connection.execute("PRAGMA user_version").fetchone()[0]
        if version > SCHEMA_VERSION:
            raise SpoolError("a newer inland wrote this store", where=str(self.path), todo="update")
        if version < SCHEMA_VERSION:
            from agent.station import schema  # noqa: PLC0415 # sqlite-utils: once in a store's life

            with self.transaction():
                schema.migrate(self.connection)

    def close(self) -> None:
        """Close the file."""
        self.connection.close()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Hold one write transaction: committed at the end, rolled back on any error.

        Raises:
            SpoolError: SQLite could not do it.
        """
        with translated(self.path):
            self.connection.execute("BEGIN IMMEDIATE")
            try:
                yield self.connection
                self.connection.execute("COMMIT")
            except BaseException:
                self._logs.clear()  # they may name rows that are not there now
                self._sessions.clear()
                if self.connection.in_transaction:
                    self.connection.execute("ROLLBACK")
                raise

    def vehicle(self, name: str) -> Vehicle | None:
        """Return an enrolled vehicle, None if it is not."""
        with translated(self.path):
            row = self.connection.execute(
                "SELECT ledger_key, policy_group FROM vehicles WHERE vehicle = ?", (name,)
            ).fetchone()
        return None if row is None else Vehicle(name, *row)

    def enrolled(self, name: str, where: str) -> Vehicle:
        """Return an enrolled vehicle.

        Raises:
            ConfigError: it is not; `where` says who named it.
        """
        vehicle = self.vehicle(name)
        if vehicle is None:
            raise ConfigError(
                f"no vehicle '{name}'", where=where, todo="`inland station ls` lists them"
            )
        return vehicle

    def vehicles(self) -> int:
        """Return how many vehicles are enrolled."""
        with translated(self.path):
            return int(self.connection.execute("SELECT count(*) FROM vehicles").fetchone()[0])

    def enroll(self, name: str, ledger_key: bytes, now_s: int, group: str = "default") -> None:
        """Add a vehicle to a group, which is offered the same policies.

        Raises:
            SpoolError: it is enrolled already.
        """
        with self.transaction() as connection:
            connection.execute(
                "INSERT INTO vehicles (vehicle, ledger_key, enrolled_s, policy_group)"
                " VALUES (?, ?, ?, ?)",
                (name, ledger_key, now_s, group),
            )

    def commit(self, arrivals: Sequence[Arrival], now_ns: int) -> list[Outcome]:
        """Store a batch in one transaction; durable on return.

        Args:
            arrivals: examined uploads of enrolled vehicles, any order.
            now_ns: the station's clock, ns since the Unix epoch.

        Returns:
            One outcome for each arrival. An entry and its session in one batch, in either order,
            are both receipted.

        Raises:
            SpoolError: nothing of the batch has been stored.
        """
        with self.transaction():
            placed = [(self._log(arrival, now_ns), arrival) for arrival in arrivals]
            kept = [self._keep(log, arrival, now_ns) for log, arrival in placed]
            return [
                outcome if outcome is Outcome.CONFLICT else self._waits(log, arrival) or outcome
                for (log, arrival), outcome in zip(placed, kept, strict=True)
            ]

    def is_hollow(self, arrival: Arrival) -> bool:
        """Return whether an entry that was committed names a body that is not here."""
        if arrival.body is not None or not arrival.names_body:
            return False
        with translated(self.path):
            row = self.connection.execute(
                "SELECT e.body IS NULL FROM entries e JOIN logs l USING (log)"
                " WHERE l.vehicle = ? AND l.log_id = ? AND e.i = ?",
                (arrival.vehicle, arrival.log, arrival.index),
            ).fetchone()
        return bool(row[0])

    def log_number(self, vehicle: str, log_id: bytes, now_ns: int) -> int:
        """Return the row of a log, making it if it is new; inside a transaction."""
        known = self._logs.get((vehicle, log_id))
        if known is not None:
            return known
        self.connection.execute(
            "INSERT OR IGNORE INTO logs (vehicle, log_id, first_ns) VALUES (?, ?, ?)",
            (vehicle, log_id, now_ns),
        )
        row = self.connection.execute(
            "SELECT log FROM logs WHERE vehicle = ? AND log_id = ?", (vehicle, log_id)
        ).fetchone()
        if len(self._logs) >= MAX_CACHED:
            self._logs.clear()
        self._logs[vehicle, log_id] = row[0]
        return int(row[0])

    def count_refusals(
        self, refusals: Mapping[tuple[str, str], tuple[int, str]], now_ns: int
    ) -> list[tuple[str, str]]:
        """Count what was turned away, in one transaction.

        Args:
            refusals: count and detail by (vehicle, code).
            now_ns: the station's clock.

        Returns:
            Those (vehicle, code) that were never seen before: worth a line in the log.
        """
        with self.transaction() as connection:
            room = MAX_REFUSALS - connection.execute("SELECT count(*) FROM refusals").fetchone()[0]
            new = []
            for (vehicle, code), (count, detail) in refusals.items():
                known = connection.execute(
                    "UPDATE refusals SET count = count + ?, last_ns = ?"
                    " WHERE vehicle = ? AND code = ?",
                    (count, now_ns, vehicle, code),
                ).rowcount
                if known:
                    continue
                new.append((vehicle, code))
                connection.execute(
                    "INSERT INTO refusals VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO"
                    " UPDATE SET count = count + excluded.count, last_ns = excluded.last_ns",
                    (vehicle if room > 0 else OTHERS, code, count, now_ns, now_ns, detail),
                )
                room -= 1
            return new

    def alarm(self, vehicle: str, code: str, detail: str, now_ns: int) -> None:
        """Record something that a person must look at; inside a transaction."""
        self.connection.execute(
            "INSERT INTO alarms (at_ns, vehicle, code, detail) VALUES (?, ?, ?, ?)",
            (now_ns, vehicle, code, detail),
        )

    def _log(self, arrival: Arrival, now_ns: int) -> int:
        return self.log_number(arrival.vehicle, arrival.log, now_ns)

    def _keep(self, log: int, arrival: Arrival, now_ns: int) -> Outcome:
        new = self.connection.execute(
            "INSERT INTO entries"
            " (log, i, kind, at_ns, received_ns, session, lane, leaf, entry, body)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (log, i) DO NOTHING",
            (
                log, arrival.index, arrival.kind, arrival.at_ns, now_ns, arrival.session,
                arrival.lane, arrival.leaf, arrival.entry, arrival.body,
            ),
        ).rowcount  # fmt: skip
        if not new:
            return self._again(log, arrival, now_ns)
        if arrival.kind == "session":
            self.connection.execute(
                "INSERT OR IGNORE INTO sessions VALUES (?, ?, ?)",
                (log, arrival.session, arrival.index),
            )
        if arrival.drops:
            self.connection.executemany(
                "INSERT OR IGNORE INTO drops VALUES (?, ?, ?, ?, ?)",
                [(log, arrival.index, *drop) for drop in arrival.drops],
            )
        if arrival.lost_log is not None:
            lost = self.log_number(arrival.vehicle, arrival.lost_log, now_ns)
            self.connection.execute(
                "INSERT OR IGNORE INTO drops VALUES (?, ?, 0, ?, ?)",
                (lost, arrival.index, MAX_INDEX, GAP_REASON),
            )
        return Outcome.STORED

    def _again(self, log: int, arrival: Arrival, now_ns: int) -> Outcome:
        leaf, has_body = self.connection.execute(
            "SELECT leaf, body IS NOT NULL FROM entries WHERE log = ? AND i = ?",
            (log, arrival.index),
        ).fetchone()
        if leaf != arrival.leaf:
            self._conflict(log, arrival, now_ns)
            return Outcome.CONFLICT
        if arrival.body is not None and not has_body:
            self.connection.execute(
                "UPDATE entries SET body = ? WHERE log = ? AND i = ?",
                (arrival.body, log, arrival.index),
            )
            return Outcome.STORED
        return Outcome.DUPLICATE

    def _conflict(self, log: int, arrival: Arrival, now_ns: int) -> None:
        known = self.connection.execute(
            "UPDATE conflicts SET count = count + 1 WHERE log = ? AND i = ? AND leaf = ?",
            (log, arrival.index, arrival.leaf),
        ).rowcount
        count = self.connection.execute(
            "SELECT count(*) FROM conflicts WHERE log = ?", (log,)
        ).fetchone()[0]
        if known or count >= MAX_CONFLICTS:
            return
        self.connection.execute(
            "INSERT INTO conflicts VALUES (?, ?, ?, ?, ?, 1)",
            (log, arrival.index, arrival.leaf, arrival.entry, now_ns),
        )
        where = f"log {arrival.log.hex()} entry {arrival.index}"
        self.alarm(arrival.vehicle, "conflict", f"{where} came again with another hash", now_ns)

    def _waits(self, log: int, arrival: Arrival) -> Outcome | None:
        """Return why an entry that is stored may not be receipted yet, None if it may."""
        if arrival.owes_body and not self._has_body(log, arrival):
            return Outcome.NO_BODY
        if arrival.kind == "segment" and not self._has_session(log, arrival.session or b""):
            return Outcome.NO_SESSION
        return None

    def _has_body(self, log: int, arrival: Arrival) -> bool:
        if arrival.body is not None:
            return True
        row = self.connection.execute(
            "SELECT body IS NOT NULL OR EXISTS (SELECT 1 FROM drops d"
            " WHERE d.log = e.log AND e.i BETWEEN d.first AND d.last)"
            " FROM entries e WHERE e.log = ? AND e.i = ?",
            (log, arrival.index),
        ).fetchone()
        return bool(row[0])

    def _has_session(self, log: int, session: bytes) -> bool:
        if (log, session) in self._sessions:
            return True
        found = self.connection.execute(
            "SELECT 1 FROM sessions WHERE log = ? AND session = ?", (log, session)
        ).fetchone()
        if found:
            if len(self._sessions) >= MAX_CACHED:
                self._sessions.clear()
            self._sessions.add((log, session))
        return found is not None
