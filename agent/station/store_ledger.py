"""One log of the station's store as a ledger that a bundle is made of.

It ends where the region's last co-signature ends: up to there the station has every entry, and the
car's ledger key has signed for them. What came later may have been sent by a car's uplink that
somebody has taken over, and can wait for the next co-signature.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from agent.errors import SpoolCorruptError
from agent.evidence.disclosure import Stored
from agent.station.store import Store, translated
from agent.vault import tree
from agent.vault.opening import place

PAGE: Final = 512  # rows a statement


class StoreLedger:
    """A log that the region has co-signed; a `disclosure.Ledger`.

    Attributes:
        log: its id, 16 bytes.

    Args:
        store: the station's.
        log: id.
        number: its row in `logs`.
        end: entries from here on are not looked at; None: all that is co-signed.
    """

    def __init__(self, store: Store, log: bytes, number: int, end: int | None = None) -> None:
        self.log, self._store, self._number = log, store, number
        row = self._one("SELECT coalesce(max(size), 0) FROM checkpoints WHERE log = ?")
        self._cosigned = int(row[0]) if row else 0
        self._end = self._cosigned if end is None else min(end, self._cosigned)

    def until(self, end: int) -> StoreLedger:
        """Return the same log, as if it ended before an entry."""
        return StoreLedger(self._store, self.log, self._number, end)

    def size(self) -> int:
        """Return how many entries are co-signed, and to be looked at."""
        return self._end

    def later(self) -> int:
        """Return how many entries are here that the region has not co-signed yet."""
        row = self._one("SELECT count(*) FROM entries WHERE log = ? AND i >= ?", self._cosigned)
        return int(row[0]) if row else 0

    def entries(self, first: int, end: int) -> Iterator[Stored]:
        """Yield the entries of a range."""
        end = min(end, self._end)
        while first < end:
            last = min(end, first + PAGE) - 1
            with translated(self._store.path):
                rows = self._store.connection.execute(
                    "SELECT i, entry FROM entries WHERE log = ? AND i BETWEEN ? AND ? ORDER BY i",
                    (self._number, first, last),
                ).fetchall()
            yield from rows
            first = last + 1

    def of_kinds(self, *kinds: str) -> Iterator[Stored]:
        """Yield the entries that are of some kinds, checked against what was co-signed by leaf."""
        with translated(self._store.path):
            rows = self._store.connection.execute(
                "SELECT i, entry, leaf FROM entries WHERE log = ? AND i < ? AND kind IN"  # noqa: S608 - marks
                f" ({','.join('?' * len(kinds))}) ORDER BY i",
                (self._number, self._end, *kinds),
            ).fetchall()
        for index, entry, leaf in rows:
            if tree.leaf_hash(entry) != leaf:
                raise SpoolCorruptError("an entry that was altered", where=place(self.log, index))
            yield index, entry

    def body(self, index: int) -> bytes | None:
        """Return the body of an entry; None if it has not come."""
        row = self._one("SELECT body FROM entries WHERE log = ? AND i = ?", index)
        return None if row is None else row[0]

    def node(self, height: int, position: int) -> bytes:
        """Return the hash of a complete subtree, from the leaves."""
        first, count = position << height, 1 << height
        grown = tree.CompactRange()
        with translated(self._store.path):
            for (leaf,) in self._store.connection.execute(
                "SELECT leaf FROM entries WHERE log = ? AND i >= ? AND i < ? ORDER BY i",
                (self._number, first, first + count),
            ):
                grown, _ = grown.append(leaf)
        if grown.size != count:
            raise SpoolCorruptError("an entry that is not here", where=place(self.log, first))
        return grown.root()

    def notes(self) -> list[tuple[int, str, bool]]:
        """Return (size, note, True) of the co-signed checkpoints, by rising size."""
        with translated(self._store.path):
            rows = self._store.connection.execute(
                "SELECT size, note FROM checkpoints WHERE log = ? ORDER BY size", (self._number,)
            ).fetchall()
        return [(size, note, True) for size, note in rows]

    def _one(self, sql: str, *more: int) -> tuple[bytes] | None:
        with translated(self._store.path):
            row: tuple[bytes] | None = self._store.connection.execute(
                sql, (self._number, *more)
            ).fetchone()
        return row


def ledgers(store: Store, vehicle: str) -> list[StoreLedger]:
    """Return the logs of a vehicle of which anything is co-signed, oldest first."""
    with translated(store.path):
        rows = store.connection.execute(
            "SELECT log_id, log FROM logs WHERE vehicle = ? ORDER BY log", (vehicle,)
        ).fetchall()
    found = [StoreLedger(store, *row) for row in rows]
    return [ledger for ledger in found if ledger.size()]
