"""The spool file: one SQLite database in WAL mode, synchronous FULL, written with plain sqlite3.

- One `Spool` is one connection, used by one thread. Both connections of the agent share a lock
  around writing (so that nobody meets "database is locked") and the tally.
- `write()` is one transaction: all of it is on the disk when it returns, or none of it.
- Every pragma is read back; a setting that did not take is an error, not a hope.
- Errors are those of `translate` (sqlite_errors.py). After one that the storage raised, fsync above
  all, this connection is not used again: the kernel may believe that pages are clean.

Source: sqlite.org/pragma.html, sqlite.org/wal.html.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Any, Final

from agent.errors import SpoolCorruptError, SpoolError, SpoolFullError
from agent.vault import tiles, tree
from agent.vault.schema import PAGE_BYTES
from agent.vault.shelves import WAITING, Shelf, Tally
from agent.vault.sqlite_errors import UNREADABLE, translate
from agent.vault.tiles import TILE_HEIGHT

MAX_LEVEL: Final = 6  # 256**7 entries: no car lives that long
OVERFLOW_BYTES: Final = 4092  # of a body in one overflow page
NOWHERE: Final = (-1, -1)  # on the axis of recorded time: not of the recorder
_BUSY_MS: Final = 10_000


@dataclass(frozen=True, slots=True)
class Size:
    """How the quota is split, bytes. The file, its WAL and the ballast together stay below it."""

    quota: int

    @property
    def wal_pages(self) -> int:
        """Pages after which the WAL is copied back into the file."""
        return max(16, min(512, self.quota // 64 // PAGE_BYTES))

    @property
    def ballast(self) -> int:
        """Room kept back, so that a disk that others filled still takes one checkpoint."""
        return self.wal_pages * PAGE_BYTES + 256 * 1024

    @property
    def max_pages(self) -> int:
        """Pages of the file. The WAL may pass its limit by one transaction: 512 KiB are for it."""
        wal = self.wal_pages * (PAGE_BYTES + 24) + 512 * 1024
        return (self.quota - wal - self.ballast) // PAGE_BYTES


@dataclass(slots=True)
class Shared:
    """What the two connections to one file have in common."""

    lock: Lock = field(default_factory=Lock)  # held while writing
    tally: Tally = field(default_factory=Tally)
    has_failed: bool = False  # the storage refused something: nothing more is written


@dataclass(slots=True)
class Transaction:
    """An open write transaction; what it moved is added to the tally when it is committed."""

    connection: sqlite3.Connection
    moves: list[tuple[Shelf, int, int]] = field(default_factory=list)
    salvaged: int = 0

    def run(self, sql: str, values: tuple[Any, ...] = ()) -> sqlite3.Cursor:
        """Execute one statement."""
        return self.connection.execute(sql, values)

    def place(
        self, shelf: Shelf, i: int, size: int, *, session: int = 0, keep: int = 0,
        recorded: tuple[int, int] = NOWHERE, consent: str = "",
    ) -> None:  # fmt: skip
        """Put an entry on a shelf."""
        row = (int(shelf), i, size, session, keep, *recorded, consent)
        self.run("INSERT INTO item VALUES(?,?,?,?,?,?,?,?)", row)
        self.moves.append((shelf, 1, size))

    def move(self, old: Shelf, new: Shelf, i: int, size: int) -> None:
        """Put an entry and its body from one shelf on another."""
        self.run("UPDATE item SET shelf=? WHERE shelf=? AND i=?", (int(new), int(old), i))
        self.moves += [(old, -1, -size), (new, 1, size)]

    def take_off(self, shelf: Shelf, i: int, size: int) -> None:
        """Take an entry off a shelf."""
        self.run("DELETE FROM item WHERE shelf=? AND i=?", (int(shelf), i))
        self.moves.append((shelf, -1, -size))

    def drop_body(self, shelf: Shelf, i: int, size: int) -> None:
        """Delete a body; an entry that still waits goes to HOLLOW and is uploaded without it."""
        self.run("DELETE FROM body WHERE i=?", (i,))
        self.take_off(shelf, i, size)
        if shelf in WAITING:
            self.place(Shelf.HOLLOW, i, 0)

    def free_pages(self) -> int:
        """Return how many more pages the file may take, inside this transaction."""
        count, free, most = (
            self.run(f"PRAGMA {name}").fetchone()[0]
            for name in ("page_count", "freelist_count", "max_page_count")
        )
        return int(most - count + free)


class Spool:
    """One connection to the spool file.

    Args:
        path: of the database, with the schema in place.
        size: of the quota.
        shared: the other connection's spool, whose lock and tally this one uses.
        cache_kib: SQLite's page cache.

    Raises:
        SpoolError: see `translate`; or a pragma that did not take.
    """

    def __init__(
        self, path: Path, size: Size, *, shared: Spool | None = None, cache_kib: int = 1024
    ) -> None:
        self.path, self.size = path, size
        self.shared: Shared = shared.shared if shared else Shared()
        self.tally = self.shared.tally
        with translate(path):
            # Statements are our transactions (isolation_level None). One thread at a time uses a
            # connection; only the closing of both may come from the other thread.
            self.connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            try:
                self._set_up(cache_kib)
                if shared is None:
                    self._count()
            except BaseException:
                self.connection.close()
                raise

    def _set_up(self, cache_kib: int) -> None:
        self._pragma("journal_mode", "wal", writes=False)
        self._pragma("page_size", PAGE_BYTES, writes=False)
        for name, value in (
            ("busy_timeout", _BUSY_MS),
            ("synchronous", 2),
            ("secure_delete", 0),
            ("cell_size_check", 1),
            ("trusted_schema", 0),
            ("temp_store", 2),
            ("journal_size_limit", (self.size.wal_pages + 128) * PAGE_BYTES),
            ("wal_autocheckpoint", self.size.wal_pages),
            ("cache_size", -cache_kib),
        ):
            self._pragma(name, value)
        count = self.connection.execute("PRAGMA page_count").fetchone()[0]
        self.limit(max(count, self.size.max_pages))

    def _pragma(self, name: str, value: int | str, *, writes: bool = True) -> None:
        if writes:
            self.connection.execute(f"PRAGMA {name}={value}")
        got = self.connection.execute(f"PRAGMA {name}").fetchone()[0]
        if got != value:
            raise SpoolError(f"SQLite keeps {name} at {got}, not {value}", where=str(self.path))

    def limit(self, pages: int) -> None:
        """Let the file grow up to so many pages."""
        self._pragma("max_page_count", pages)

    def pages(self) -> int:
        """Return how many pages the file has."""
        with translate(self.path):
            return int(self.connection.execute("PRAGMA page_count").fetchone()[0])

    def _count(self) -> None:
        rows = self.connection.execute(
            "SELECT shelf, count(*), total(bytes) FROM item GROUP BY shelf"
        )
        moves = [(Shelf(shelf), count, int(size)) for shelf, count, size in rows]
        waiting = "SELECT count(*) FROM salvage WHERE shelf<8"  # KEPT waits for nobody
        self.tally.apply(moves, self.connection.execute(waiting).fetchone()[0])

    @contextmanager
    def write(self) -> Iterator[Transaction]:
        """Run one durable transaction.

        Raises:
            SpoolError: see `translate`; nothing of the transaction is stored.
        """
        with self.shared.lock:
            if self.shared.has_failed:
                raise SpoolError(
                    "the storage failed before", where=str(self.path), todo="restart the agent"
                )
            try:
                with translate(self.path), self._transaction() as transaction:
                    yield transaction
            except (SpoolFullError, SpoolCorruptError):
                raise
            except SpoolError:
                self.shared.has_failed = True
                raise
            self.tally.apply(transaction.moves, transaction.salvaged)

    @contextmanager
    def _transaction(self) -> Iterator[Transaction]:
        self.connection.execute("BEGIN IMMEDIATE")
        try:
            yield Transaction(self.connection)
            self.connection.execute("COMMIT")
        except BaseException:
            if self.connection.in_transaction:  # SQLite may have rolled back by itself
                self.connection.execute("ROLLBACK")
            raise

    def rows(self, sql: str, values: tuple[Any, ...] = ()) -> list[Any]:
        """Return all rows of a query whose result is small.

        Raises:
            SpoolError: see `translate`.
        """
        with translate(self.path):
            return self.connection.execute(sql, values).fetchall()

    def one(self, sql: str, values: tuple[Any, ...] = ()) -> Any:
        """Return the first column of the first row; None if there is no row.

        Raises:
            SpoolError: see `translate`.
        """
        with translate(self.path):
            row = self.connection.execute(sql, values).fetchone()
        return None if row is None else row[0]

    def is_sound(self, budget_s: float) -> bool:
        """Return whether quick_check finds nothing wrong, or does not end within its time."""
        deadline = time.monotonic() + budget_s
        self.connection.set_progress_handler(lambda: time.monotonic() > deadline, 10_000)
        try:
            return bool(self.connection.execute("PRAGMA quick_check(1)").fetchone()[0] == "ok")
        except UNREADABLE as error:
            # Out of time is no verdict: the hash of each body is checked before it is sent.
            # Where quick_check itself stumbles over the damage, the answer is no.
            return getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_INTERRUPT
        finally:
            self.connection.set_progress_handler(None, 0)

    def checkpoint_wal(self) -> None:
        """Copy the WAL back, so that it is written from its start again.

        Raises:
            SpoolError: see `translate`.
        """
        with self.shared.lock, translate(self.path):
            self.connection.execute("PRAGMA wal_checkpoint(RESTART)").fetchone()

    def close(self) -> None:
        """Close the connection."""
        self.connection.close()

    def node(self, height: int, position: int) -> bytes:
        """Return the hash of a complete subtree of the ledger (`tree.Nodes`).

        Raises:
            SpoolCorruptError: entries or tiles of it are not there.
        """
        return tiles.node(self.rows, height, position, where=str(self.path))

    def load_tree(self) -> tree.CompactRange:
        """Return the right edge of the ledger's tree, from tiles and at most 255 entries a level.

        Raises:
            SpoolCorruptError: entries or tiles are not there.
        """
        size = (self.one("SELECT max(i) FROM ledger") or 0) + 1
        if self.one("SELECT count(*) FROM (SELECT 1 FROM ledger LIMIT 1)") == 0:
            return tree.CompactRange()
        compact = tree.CompactRange()
        for level in range(MAX_LEVEL, -2, -1):
            height = (level + 1) * TILE_HEIGHT
            first, end = compact.size >> height, size >> height
            leaves = tiles.leaves(self.rows, level, first, end - first) if end > first else []
            if len(leaves) != end - first:
                raise SpoolCorruptError(
                    f"entries from {first} (level {level}) are missing", where=str(self.path)
                )
            for leaf in leaves:
                compact, _ = compact.append(leaf, height)
        return compact
