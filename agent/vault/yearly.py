"""The ledger of a spool, read while the agent writes it: for reports, and never a key needed.

- Read only: the file is opened so, and no statement lasts longer than a page of rows, so that a
  long report never keeps the agent from putting its write-ahead log away.
- Entries say what happened and not what was measured. Of the bodies only policies are read; they
  are the ones that are not sealed.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Final
from urllib.parse import quote

from google.protobuf.message import DecodeError

from agent.digest import sha256
from agent.errors import SpoolCorruptError, UndecidedError
from agent.pb import ledger_pb2
from agent.vault.salvage import FILE
from agent.vault.shelves import WAITING
from agent.vault.sqlite_errors import translate

PAGE: Final = 2048  # rows a statement
_BUSY_S: Final = 10.0


class LedgerReader:
    """Reads the ledger of a state folder.

    Args:
        folder: the state folder of the agent.

    Raises:
        UndecidedError: there is no ledger.
        SpoolError: it cannot be read.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / "spool" / FILE
        if not self.path.is_file():
            raise UndecidedError("there is no ledger yet", where=str(self.path),
                                 todo="start the agent, or say --config FILE")  # fmt: skip
        with translate(self.path):
            self._connection = sqlite3.connect(
                f"file:{quote(str(self.path))}?mode=ro", uri=True, timeout=_BUSY_S,
                isolation_level=None,
            )  # fmt: skip

    def __enter__(self) -> LedgerReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        where: TracebackType | None,
    ) -> None:  # fmt: skip
        self._connection.close()

    def size(self) -> int:
        """Return how many entries there are; raises as the constructor does."""
        return int(self._one("SELECT coalesce(max(i) + 1, 0) FROM ledger") or 0)

    def entries(self, first: int = 0) -> Iterator[ledger_pb2.Entry]:
        """Yield the entries from an index on, in order, as far as they went at the start.

        Raises:
            SpoolError: the file cannot be read, or an entry is none.
        """
        end = self.size()
        while first < end:
            with translate(self.path):
                rows = self._connection.execute(
                    "SELECT i, entry FROM ledger WHERE i>=? AND i<? ORDER BY i LIMIT ?",
                    (first, end, PAGE),
                ).fetchall()
            if not rows:
                return
            for i, stored in rows:
                yield self._entry(i, stored)
            first = int(rows[-1][0]) + 1

    def _entry(self, i: int, stored: bytes) -> ledger_pb2.Entry:
        try:
            return ledger_pb2.Entry.FromString(stored)
        except DecodeError:
            raise SpoolCorruptError(f"entry {i} is damaged", where=str(self.path)) from None

    def policy(self, i: int, digest: bytes) -> bytes | None:
        """Return the compiled policy of an entry; None if it is gone or not what was named.

        Raises:
            SpoolError: the file cannot be read.
        """
        blob = self._one("SELECT blob FROM body WHERE i=?", (i,))
        return blob if isinstance(blob, bytes) and sha256(blob) == digest else None

    def present_month(self) -> ledger_pb2.Kept:
        """Return what the agent has counted since its last Kept entry: up to an hour old.

        Raises:
            SpoolError: the file cannot be read.
        """
        # A spool of the version before has no such table.
        has_memory = self._one("SELECT count(*) FROM sqlite_master WHERE name='memory'")
        data = self._one("SELECT v FROM memory WHERE k='kept'") if has_memory else None
        try:
            return ledger_pb2.Kept.FromString(data if isinstance(data, bytes) else b"")
        except DecodeError:
            return ledger_pb2.Kept()  # the agent says so in its log, and counts anew

    def waiting(self, first: int, last: int) -> int:
        """Return how many of the entries in a range (inclusive) the region has not confirmed.

        Raises:
            SpoolError: the file cannot be read.
        """
        shelves = ",".join(str(int(shelf)) for shelf in WAITING)
        count = self._one(
            f"SELECT count(*) FROM item WHERE shelf IN ({shelves}) AND i BETWEEN ? AND ?",  # noqa: S608 - numbers of ours
            (first, last),
        )
        return int(count or 0)

    def rows(self, sql: str, values: tuple[int, ...] = ()) -> list[tuple[Any, ...]]:
        """Return the rows of a question; raises as the constructor does."""
        with translate(self.path):
            return self._connection.execute(sql, values).fetchall()

    def _one(self, sql: str, values: tuple[int, ...] = ()) -> int | bytes | None:
        with translate(self.path):
            row = self._connection.execute(sql, values).fetchone()
        found: int | bytes | None = row[0] if row is not None else None
        return found
