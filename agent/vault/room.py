"""Room in the spool: who must go when something comes in, and what to do when the disk is full.

- Bodies go, entries stay. Least urgent shelf first, oldest first, and nothing goes for something
  less urgent than itself. Unconfirmed incidents go only past their share of the quota, and only
  for another incident or an entry of the ledger.
- Evictions come in groups, in the transaction that needed the room; the caller writes their drop
  entries into the same transaction.
- A disk that somebody else filled: the ballast file is given up, which lets the WAL be copied back
  and reused; the file stops growing and evicts inside itself until the disk has room again.
- At the end of a run the WAL leaves the disk, and the next run cannot begin without one: so what it
  leaves is kept back, for the next run to give up.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from agent.errors import SpoolError, SpoolQuotaError
from agent.pb import ledger_pb2
from agent.vault.schema import PAGE_BYTES
from agent.vault.shelves import INCIDENTS, Shelf, evictable_for, ranges, reason_for
from agent.vault.spool import OVERFLOW_BYTES, Spool, Transaction

INCIDENT_SHARE: Final = 0.3  # of the file: up to it incidents give way to nothing
_CHUNK: Final = 16  # bodies deleted between two looks at the free pages
_ENTRY_PAGES: Final = 8  # a transaction's ledger, item and tile pages, splits included
_LEAST: Final = 64 * 1024  # of a ballast: 32 KiB for the WAL's index, the rest for its first pages
_BATCH_PAGES: Final = 256  # evicted beyond what is needed: one drop entry for a MiB

Dropped = dict[ledger_pb2.Drop.Reason, list[int]]


def make_room(transaction: Transaction, spool: Spool, size: int, shelf: Shelf) -> Dropped:
    """Evict until a transaction of `size` bytes for a shelf fits; returns what went.

    Raises:
        SpoolQuotaError: nothing less urgent is left to go.
    """
    most = spool.size.max_pages
    reserve = max(_ENTRY_PAGES, min(64, most // 32))  # receipts and the ledger never wait for room
    need = size // OVERFLOW_BYTES + _ENTRY_PAGES
    if shelf not in (Shelf.SESSION, *INCIDENTS):
        need += reserve
    dropped: Dropped = {}
    if (free := transaction.free_pages()) >= need:
        return dropped
    want = need + min(_BATCH_PAGES, most // 32)
    for victim in evictable_for(shelf):
        while free < want and (rows := _oldest(transaction, victim)):
            if victim == Shelf.INCIDENT and not _past_share(transaction, spool):
                break
            for i, body_bytes, stands in rows:
                transaction.drop_body(stands, i, body_bytes)
                dropped.setdefault(reason_for(victim), []).append(i)
            free = transaction.free_pages()
    if free < need:
        raise SpoolQuotaError(f"no room for {size} bytes", where=str(spool.path))
    return dropped


def _oldest(transaction: Transaction, victim: Shelf) -> list[tuple[int, int, Shelf]]:
    """Return (index, bytes, shelf) of the oldest bodies; all incidents are one queue."""
    found = [
        (i, size, shelf)
        for shelf in (INCIDENTS if victim == Shelf.INCIDENT else (victim,))
        for i, size in transaction.run(
            "SELECT i, bytes FROM item WHERE shelf=? ORDER BY i LIMIT ?", (int(shelf), _CHUNK)
        )
    ]
    return sorted(found)[:_CHUNK]


def _past_share(transaction: Transaction, spool: Spool) -> bool:
    held = sum(spool.tally.bytes[shelf] for shelf in INCIDENTS)
    held += sum(size for shelf, _, size in transaction.moves if shelf in INCIDENTS)
    return held > INCIDENT_SHARE * spool.size.max_pages * 4096


def drop_entries(dropped: Dropped) -> list[ledger_pb2.Drop]:
    """Return the ledger entries that explain what went."""
    return [
        ledger_pb2.Drop(range=ranges(indices), reason=reason)
        for reason, indices in sorted(dropped.items())
    ]


def attainable(folder: Path, quota: int) -> int:
    """Return a quota that the folder's file system can hold at all, bytes.

    What others have filled does not count: they may go. A small file system stays small.
    """
    disk = os.statvfs(folder)
    return min(quota, disk.f_blocks * disk.f_frsize * 9 // 10)


class Ballast:
    """A file of nothing that is given up when the disk is full, and taken back afterwards.

    Args:
        path: of the file.
        size: bytes.
    """

    def __init__(self, path: Path, size: int) -> None:
        self.path, self.size = path, size
        self.is_held = False

    def hold(self) -> bool:
        """Take the room if the disk has four times as much; returns whether it is held."""
        if not self.is_held:
            try:
                free = os.statvfs(self.path.parent)
                if free.f_bavail * free.f_frsize < 4 * self.size:
                    return False
                self._take(self.size)
            except OSError:
                return False  # no room is an answer here, not a failure
            self.is_held = True
        return True

    def keep(self) -> None:
        """Take what there is when a run has ended, so that the next can begin on a full disk."""
        size = 0 if self.is_held else self.size
        while size >= _LEAST:
            try:
                self._take(size)
            except OSError:
                size //= 2
            else:
                return

    def _take(self, size: int) -> None:
        handle = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(handle, 0, size)
        except OSError:
            self.path.unlink()  # a part of it may have been taken
            raise
        finally:
            os.close(handle)

    def pages_left(self) -> int:
        """Return how many pages a file may grow by now and leave room for a WAL."""
        disk = os.statvfs(self.path.parent)
        return max(0, disk.f_bavail * disk.f_frsize - 2 * self.size) // PAGE_BYTES

    def release(self) -> None:
        """Give the room back to the disk.

        Raises:
            SpoolError: the file cannot be removed.
        """
        try:
            self.path.unlink(missing_ok=True)
        except OSError as error:
            raise SpoolError(f"cannot give up the ballast: {error.strerror}") from None
        self.is_held = False
