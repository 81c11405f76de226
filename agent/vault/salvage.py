"""A damaged spool file: put aside as a whole, read for what is still good, carried over for upload.

- The folder of file, WAL and shm is renamed in one step, so a crash never separates them. What is
  in quarantine and not marked as read is read at the next start.
- An entry is carried over only if it parses, carries its own index, is the one in the tree, and its
  body has the hash that it names. It keeps its old identity (log, i); the region's receipt is what
  removes it. Where the list of what waits is damaged, each row of it that can still be reached is:
  entries without one are carried over as they are, and the region holds them against the tree.
- With a body goes its session, without which nobody opens it, also if the region has that already;
  it stays as long as such bodies do.
- What an event holds is carried over with its body: for upload, or, if it is to stay in the car,
  to stay here. Open holds and what the agent remembers go on. Where it cannot be told any more what
  waits, the recorder's bodies are carried over as far as an Incident entry sends them home.
- A destroyed first page is replaced by that of a new spool: same schema, same root pages.
- Bounded in time and bytes: the car goes on within 5 s, whatever the file looks like.
- Of the files in quarantine only the newest is kept.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from google.protobuf.message import DecodeError

from agent.files import remove_folder, sync_folder
from agent.pb import ledger_pb2
from agent.vault import tree, unfinished
from agent.vault.intact import body_hash, is_intact, is_leaf
from agent.vault.schema import PAGE_BYTES
from agent.vault.shelves import BY_LANE, WAITING, Shelf
from agent.vault.spool import Spool
from agent.vault.sqlite_errors import UNREADABLE

BUDGET_S: Final = 2.5
FILE: Final = "spool.db"
_PAGE: Final = 64  # rows a query
_MAX_HOLES: Final = 512  # damaged places that a scan goes over
_BATCH_BYTES: Final = 1 << 20  # of bodies in one transaction
_LARGEST: Final = 2**62


@dataclass(frozen=True, slots=True)
class Row:
    """One entry that is still good."""

    i: int
    shelf: Shelf
    entry: bytes
    body: bytes
    keep: int = 0
    consent: str = ""


@dataclass(frozen=True, slots=True)
class Stood:
    """Where an entry stood in the damaged file, and under which terms."""

    shelf: Shelf
    keep: int = 0
    session: int = 0  # index of the session that its body needs
    consent: str = ""
    leaf: bytes = b""


def put_aside(folder: Path) -> Path:
    """Move folder/spool into quarantine, durably, and return where it is."""
    quarantine = folder / "quarantine"
    quarantine.mkdir(mode=0o700, exist_ok=True)
    taken = [int(p.name) for p in quarantine.iterdir() if p.name.isdigit()]
    target = quarantine / f"{max(taken, default=0) + 1:04d}"
    (folder / "spool").rename(target)
    for path in (quarantine, folder):
        sync_folder(path)
    return target


def aside(folder: Path) -> list[Path]:
    """Return what is in quarantine, oldest first."""
    quarantine = folder / "quarantine"
    if not quarantine.is_dir():
        return []
    return sorted(p for p in quarantine.iterdir() if p.name.isdigit())


def forget_older(folder: Path) -> None:
    """Keep only the newest file in quarantine: two spools are room enough for an expert."""
    for path in aside(folder)[:-1]:
        remove_folder(path)


class Salvage:
    """Reads one quarantined spool.

    Args:
        path: its folder.
        template: a new spool file of the same schema, for a destroyed first page.
        budget_s: time for reading it.
    """

    def __init__(self, path: Path, template: Path, *, budget_s: float = BUDGET_S) -> None:
        self._file = path / FILE
        self._deadline = time.monotonic() + budget_s
        self._holes = 0
        self.log, self.size = b"", 0
        self.floor_ns = 0  # of trusted time, when it is carried over
        self._lost: set[int] = set()  # entries that cannot be read, or are not what they were
        self._lost_sessions: set[bytes] = set()
        self._sent: list[tuple[int, int]] = []  # of the recorder, to the region: first, last
        self._withdrawn: set[str] = set()
        self._connection: sqlite3.Connection | None = self._connect(template)
        self._stands = ""  # columns of `item`, as Stood has them
        if self._connection is not None:
            self.log = self._log_id(self._connection)
            names = {row[1] for row in self._table("PRAGMA table_info(item)")}
            # Version 1 had neither, version 2 no leaf.
            more = [name if name in names else f"'' AS {name}" for name in ("consent", "leaf")]
            self._stands = ", ".join(("keep", "session", *more))
            for key in self._table("SELECT k FROM meta WHERE k LIKE 'withdraw %'"):
                self._withdrawn.add(str(key[0]).removeprefix("withdraw "))

    def _connect(self, template: Path) -> sqlite3.Connection | None:
        for repair in (False, True):
            if repair and not _mend_first_page(self._file, template):
                return None
            connection = sqlite3.connect(self._file, isolation_level=None)
            try:
                connection.execute("SELECT 1 FROM ledger LIMIT 1").fetchone()
                connection.execute("EXPLAIN SELECT 1 FROM item")  # its pages may be damaged
            except UNREADABLE:
                connection.close()
            else:
                return connection
        return None

    def _log_id(self, connection: sqlite3.Connection) -> bytes:
        try:
            row = connection.execute("SELECT v FROM meta WHERE k='log'").fetchone()
            if row is not None and len(row[0]) == 16:
                return bytes(row[0])
        except UNREADABLE:
            self._holes += 1
        first = self._read(connection, 0)
        if first is None:
            return b""
        entry = ledger_pb2.Entry()
        entry.ParseFromString(first[0])
        return entry.genesis.log

    def rows(self) -> Iterator[Row]:
        """Yield what the region has not confirmed; everything readable if that cannot be told."""
        if self._connection is None or not self.log:
            return
        found, told = self._waiting(self._connection)
        for i, stood in found.items():
            yield from self._row(self._connection, i, stood)
        if told:
            return
        for i in self._scan(self._connection):
            if i not in found:
                yield from self._row(self._connection, i, self._stood(self._connection, i))

    def _waiting(self, connection: sqlite3.Connection) -> tuple[dict[int, Stood], bool]:
        found: dict[int, Stood] = {}
        try:
            self.size = (connection.execute("SELECT max(i) FROM ledger").fetchone()[0] or 0) + 1
            for shelf in (*WAITING, Shelf.KEPT):
                for i, *stood in connection.execute(
                    f"SELECT i, {self._stands} FROM item WHERE shelf=? ORDER BY i",  # noqa: S608
                    (int(shelf),),
                ):
                    found[i] = Stood(shelf, *stood)
                    if time.monotonic() > self._deadline:
                        return found, True
            self._add_sessions(connection, found)
        except UNREADABLE:
            self._holes += 1
            return found, False
        return found, True

    def _add_sessions(self, connection: sqlite3.Connection, found: dict[int, Stood]) -> None:
        """Find the confirmed sessions of what was found."""
        for session in {stood.session for stood in found.values()} - found.keys():
            for i, _, *stood in connection.execute(
                f"SELECT i, {self._stands} FROM item WHERE shelf=? AND i=? AND session=i",  # noqa: S608
                (int(Shelf.PINNED), session),
            ):
                found[i] = Stood(Shelf.PINNED, 0, *stood)

    def _stood(self, connection: sqlite3.Connection, i: int) -> Stood | None:
        """Return where one entry stood: other pages than the damaged one lead there."""
        for shelf in (*WAITING, Shelf.KEPT):
            try:
                row = connection.execute(
                    f"SELECT {self._stands} FROM item WHERE shelf=? AND i=?",  # noqa: S608
                    (int(shelf), i),
                ).fetchone()
            except UNREADABLE:
                continue
            if row is not None:
                return Stood(shelf, *row)
        return None

    def _scan(self, connection: sqlite3.Connection) -> Iterator[int]:
        last = _LARGEST  # newest first: what is confirmed is old
        while self._holes < _MAX_HOLES and last > 0 and time.monotonic() < self._deadline:
            try:
                rows = connection.execute(
                    "SELECT i FROM ledger WHERE i<? ORDER BY i DESC LIMIT ?", (last, _PAGE)
                ).fetchall()
            except UNREADABLE:
                self._holes += 1
                last = (self.size if last == _LARGEST else last) - _PAGE
                continue
            if not rows:
                return
            yield from (row[0] for row in rows)
            last = rows[-1][0]

    def _row(self, connection: sqlite3.Connection, i: int, stood: Stood | None) -> Iterator[Row]:
        if time.monotonic() > self._deadline:
            return
        read = self._read(connection, i)
        if read is None or (stood is not None and not is_leaf(read[0], stood.leaf)):
            self._lost.add(i)
            return
        stored, body = read
        self.size = max(self.size, i + 1)
        entry = ledger_pb2.Entry()
        entry.ParseFromString(stored)
        stood = stood or Stood(self._guess(entry))
        shelf = stood.shelf
        if shelf == Shelf.RECORDER or not is_intact(stored, body) or self._is_orphan(entry, stood):
            body = b""
        if stood.consent in self._withdrawn:
            body = b""
        if shelf in (Shelf.KEPT, Shelf.PINNED) and not body:
            return  # confirmed, and gone
        if not body and entry.WhichOneof("what") == "session":
            self._lost_sessions.add(entry.session.session)
        if not body and body_hash(entry) and shelf != Shelf.RECORDER:
            shelf = Shelf.HOLLOW
        yield Row(i, shelf, stored, body, stood.keep, stood.consent)

    def _guess(self, entry: ledger_pb2.Entry) -> Shelf:
        """Return where an entry stands if the file does not tell: entries come newest first."""
        kind = entry.WhichOneof("what")
        if kind == "incident" and entry.incident.upload:
            self._sent += [(part.first, part.last) for part in entry.incident.held]
        if kind != "segment":
            return Shelf.SESSION
        shelf = BY_LANE[entry.segment.lane]
        is_sent = any(first <= entry.index <= last for first, last in self._sent)
        return Shelf.INCIDENT if shelf == Shelf.RECORDER and is_sent else shelf

    def _is_orphan(self, entry: ledger_pb2.Entry, stood: Stood) -> bool:
        """Whether it is a segment that nobody can open, because its session is damaged."""
        return stood.session in self._lost or entry.segment.session in self._lost_sessions

    def _read(self, connection: sqlite3.Connection, i: int) -> tuple[bytes, bytes] | None:
        entry = ledger_pb2.Entry()
        try:
            row = connection.execute("SELECT entry FROM ledger WHERE i=?", (i,)).fetchone()
            if row is None:
                return None
            entry.ParseFromString(row[0])
        except (*UNREADABLE, DecodeError, TypeError):
            self._holes += 1
            return None
        if entry.index != i:
            return None
        try:
            blob = connection.execute("SELECT blob FROM body WHERE i=?", (i,)).fetchone()
        except UNREADABLE:
            self._holes += 1
            blob = None
        body = blob[0] if blob is not None and isinstance(blob[0], bytes) else b""
        return row[0], body

    def carry_over(self, spool: Spool, max_bytes: int) -> None:
        """Copy what is good into a spool: its bodies into the table `salvage`, and what goes on.

        Raises:
            SpoolError: see `spool.translate`.
        """
        batch: list[Row] = []
        for row in self.rows():
            if len(row.body) > max_bytes:
                break
            max_bytes -= len(row.body) + len(row.entry)
            batch.append(row)
            if sum(len(r.body) for r in batch) > _BATCH_BYTES or len(batch) >= _MAX_HOLES:
                self._store(spool, batch)
                batch = []
        self._store(spool, batch)
        self.floor_ns = unfinished.carry_over(self._table, self.log, spool)

    def _table(self, query: str) -> list[Any]:
        """Return the rows of a small table; none if it is damaged, or of an older version."""
        if self._connection is None:
            return []
        try:
            return self._connection.execute(query).fetchmany(_MAX_HOLES)
        except UNREADABLE:
            return []

    def _store(self, spool: Spool, batch: list[Row]) -> None:
        with spool.write() as transaction:
            for row in batch:
                new = transaction.run(
                    "INSERT OR IGNORE INTO salvage(log, i, shelf, entry, blob, keep, consent, leaf)"
                    " VALUES(?,?,?,?,?,?,?,?)",
                    (
                        self.log, row.i, int(row.shelf), row.entry, row.body or None, row.keep,
                        row.consent, tree.leaf_hash(row.entry),
                    ),
                ).rowcount  # fmt: skip
                transaction.salvaged += new if row.shelf in WAITING else 0

    def close(self) -> None:
        """Close the quarantined file."""
        if self._connection is not None:
            self._connection.close()


def _mend_first_page(file: Path, template: Path) -> bool:
    """Write a new spool's first page over a destroyed one. The freelist is given up."""
    try:
        page = bytearray(template.read_bytes()[:PAGE_BYTES])
        with file.open("r+b") as damaged:
            pages = damaged.seek(0, os.SEEK_END) // PAGE_BYTES
            page[28:32] = pages.to_bytes(4, "big")
            page[32:40] = bytes(8)  # no freelist: nothing is ever inserted here again
            page[92:96] = page[24:28]  # makes SQLite believe the page count
            damaged.seek(0)
            damaged.write(page)
    except OSError:
        return False
    return len(page) == PAGE_BYTES
