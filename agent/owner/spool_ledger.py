"""The car's spool as a ledger that a bundle is made of, read while the agent writes it.

- Read only, in small pages: no statement lasts longer than one, so that neither the agent nor its
  write-ahead log ever waits for an export.
- A log that could not be continued stands in quarantine. What of it can still be read is read
  there; what is damaged is a hole, which the verifier names.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from agent.errors import SealError, SpoolCorruptError, UndecidedError
from agent.vault import checkpoint, salvage, tiles
from agent.vault.shelves import Shelf
from agent.vault.sqlite_errors import translate

PAGE: Final = 512  # rows a statement
MAX_HOLES: Final = 256  # damaged pages of a file in quarantine that are gone over
_SHELVES: Final = ",".join(str(int(shelf)) for shelf in Shelf)  # the key begins with it
_CONSENT: Final = f"SELECT consent FROM item WHERE shelf IN ({_SHELVES}) AND i=?"  # noqa: S608
_BUSY_S: Final = 10.0

Acting = Callable[[], AbstractContextManager[None]]  # while the file is touched


class SpoolLedger:
    """One spool file; a `disclosure.Ledger`.

    Args:
        path: of the database.
        is_live: the agent's own, not one in quarantine: damage is an error there.
        acting: entered while the file is touched, to be its owner meanwhile.

    Raises:
        UndecidedError: no ledger is there.
        SpoolError: it cannot be read.
    """

    def __init__(self, path: Path, *, is_live: bool = True, acting: Acting = nullcontext) -> None:
        self.path, self._is_live, self._acting = path, is_live, acting
        self._holes: set[tuple[int, int]] = set()
        with acting(), translate(path):
            if not path.is_file():
                raise UndecidedError("there is no ledger yet", where=str(path),
                                     todo="start the agent, or say --config FILE")  # fmt: skip
            self._connection = sqlite3.connect(
                f"file:{quote(str(path))}?mode=ro", uri=True, timeout=_BUSY_S, isolation_level=None
            )
            try:
                rows = self._connection.execute("SELECT v FROM meta WHERE k='log'").fetchall()
                self.log = bytes(rows[0][0]) if rows else b""
            except BaseException:
                self._connection.close()
                raise
        if len(self.log) != 16:
            self.close()
            raise SpoolCorruptError("the spool does not know its log", where=str(path))

    def close(self) -> None:
        """Close the file."""
        with self._acting():
            self._connection.close()

    def rows(self, sql: str, values: tuple[Any, ...] = ()) -> list[Any]:
        """Return all rows of a query whose result is small."""
        with self._acting(), translate(self.path):
            return self._connection.execute(sql, values).fetchall()

    def size(self) -> int:
        """Return how many entries there are."""
        return int(self.rows("SELECT coalesce(max(i) + 1, 0) FROM ledger")[0][0])

    def entries(self, first: int, end: int) -> Iterator[tuple[int, bytes]]:
        """Yield the entries of a range that can be read."""
        while first < end:
            last = min(end, first + PAGE) - 1
            for index, stored in self._page(first, last):
                if isinstance(index, int) and isinstance(stored, bytes):
                    yield index, stored
            first = last + 1

    def _page(self, first: int, last: int) -> list[Any]:
        sql = "SELECT i, entry FROM ledger WHERE i BETWEEN ? AND ? ORDER BY i"
        try:
            return self.rows(sql, (first, last))
        except SpoolCorruptError:
            if self._is_live or len(self._holes) >= MAX_HOLES:
                raise
        self._holes.add((first, last))
        if first == last:
            return []
        middle = (first + last) // 2
        return self._page(first, middle) + self._page(middle + 1, last)

    def body(self, index: int) -> bytes | None:
        """Return the body of an entry, None if it is gone or cannot be read."""
        try:
            rows = self.rows("SELECT blob FROM body WHERE i=?", (index,))
        except SpoolCorruptError:
            if self._is_live:
                raise
            return None
        return rows[0][0] if rows and isinstance(rows[0][0], bytes) else None

    def node(self, height: int, position: int) -> bytes:
        """Return the hash of a complete subtree."""
        return tiles.node(self.rows, height, position, where=str(self.path))

    def notes(self) -> list[tuple[int, str, bool]]:
        """Return (size, note, whether it is co-signed) of the checkpoints."""
        rows = self.rows("SELECT size, note, cosigned FROM checkpoint ORDER BY size")
        heads = [(size, cosigned or note, cosigned is not None) for size, note, cosigned in rows]
        return heads if self._is_live else [head for head in heads if _is_note(head)]

    def consent(self, index: int) -> str:
        """Return the category of the consent that a body is kept under, "" if none."""
        try:
            rows = self.rows(_CONSENT, (index,))
        except (SpoolCorruptError, sqlite3.OperationalError):  # a file of version 1 has none
            return ""
        return str(rows[0][0]) if rows else ""

    def carried(self) -> list[bytes]:
        """Return the other logs of which this file has carried entries over."""
        try:
            rows = self.rows("SELECT DISTINCT log FROM salvage WHERE length(log)=16 ORDER BY log")
        except SpoolCorruptError:
            if self._is_live:
                raise
            return []
        return [bytes(log) for (log,) in rows if log != self.log]


def _is_note(head: tuple[int, str, bool]) -> bool:
    """Return whether a row of a damaged file still is a checkpoint of its size."""
    try:
        return checkpoint.parse(head[1]).checkpoint.size == head[0]
    except (SealError, AttributeError):  # no text: damaged as well
        return False


def open_ledgers(state: Path, *, acting: Acting = nullcontext) -> list[SpoolLedger]:
    """Return the ledgers of a state folder: what is in quarantine, oldest first, then the live one.

    Args:
        state: the agent's state folder.
        acting: see `SpoolLedger`.

    Raises:
        UndecidedError: there is no live one.
        SpoolError: the live one cannot be read.
    """
    with acting():
        aside = salvage.aside(state)
    found = []
    for folder in aside:
        try:
            found.append(SpoolLedger(folder / salvage.FILE, is_live=False, acting=acting))
        except (SpoolCorruptError, UndecidedError):
            continue  # nothing of it can be read
    try:
        found.append(SpoolLedger(state / "spool" / salvage.FILE, acting=acting))
    except BaseException:
        for ledger in found:
            ledger.close()
        raise
    return found
