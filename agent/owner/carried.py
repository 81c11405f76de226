"""A log whose file is gone, as far as a spool has carried its entries over; a `disclosure.Ledger`.

When a spool was damaged, the next one took over what still waited for the region or was held by an
event, and the damaged file stands in quarantine until another one does. From then on these rows are
all that the car has of the log. Its tree and its signatures went with the file: each entry and body
is what it was when it was carried over, by its hash, and nothing in the car proves more.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from agent.errors import SpoolCorruptError
from agent.evidence.disclosure import PAGE, Stored
from agent.vault.intact import is_leaf
from agent.vault.opening import place


class Rows(Protocol):
    """A spool file: `SpoolLedger`."""

    def rows(self, sql: str, values: tuple[Any, ...] = ()) -> list[Any]:
        """Return all rows of a query whose result is small."""


class CarriedLedger:
    """What is left of one log.

    Attributes:
        log: its id, 16 bytes.

    Args:
        log: id.
        files: the spools that have rows of it, the one that is believed first.
    """

    def __init__(self, log: bytes, files: Sequence[Rows]) -> None:
        self.log, self._files = log, files

    def size(self) -> int:
        """Return one behind the last entry that is here."""
        ends = self._all("SELECT coalesce(max(i) + 1, 0) FROM salvage WHERE log=?", self.log)
        return max(int(end) for (end,) in ends)

    def entries(self, first: int, end: int) -> Iterator[Stored]:
        """Yield the entries of a range that are here and are what was carried over."""
        sql = (
            "SELECT i, entry, leaf FROM salvage"
            " WHERE log=? AND i BETWEEN ? AND ? ORDER BY i LIMIT ?"
        )
        while first < end:
            pages = [file.rows(sql, (self.log, first, end - 1, PAGE)) for file in self._files]
            # What is behind the end of the shortest full page is not known of its file yet.
            last = min([page[-1][0] for page in pages if len(page) == PAGE], default=end - 1)
            rows = [row for page in reversed(pages) for row in page if row[0] <= last]
            yield from sorted({i: entry for i, entry, leaf in rows if is_leaf(entry, leaf)}.items())
            first = last + 1

    def body(self, index: int) -> bytes | None:
        """Return the body of an entry; None if it is not here."""
        sql = "SELECT blob FROM salvage WHERE log=? AND i=? AND blob IS NOT NULL"
        return next((bytes(blob) for (blob,) in self._all(sql, self.log, index)), None)

    def node(self, height: int, position: int) -> bytes:
        """Raise SpoolCorruptError: the tree is gone."""
        raise SpoolCorruptError("the tree is gone", where=place(self.log, position << height))

    def notes(self) -> list[tuple[int, str, bool]]:
        """Return nothing: the checkpoints are gone."""
        return []

    def consent(self, index: int) -> str:
        """Return the category of the consent that a body is kept under, "" if none."""
        sql = "SELECT consent FROM salvage WHERE log=? AND i=?"
        return next((str(name) for (name,) in self._all(sql, self.log, index)), "")

    def _all(self, sql: str, *values: Any) -> list[Any]:
        return [row for file in self._files for row in file.rows(sql, values)]
