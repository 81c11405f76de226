"""Holds: the parts of the recorder's window that an event keeps. Used by the sealer's thread alone.

- A hold names a piece of the axis of recorded time. It begins in the transaction that stores the
  record of its event: there is no moment at which a power cut leaves the one without the other.
- The recorder's segments that overlap it are locked: those that are here in that transaction, those
  that are sealed later in the one that stores them. What two holds want is locked once and listed
  in both.
- With `upload` a locked segment waits on the lane incident with its body, even if its entry was
  confirmed without it before. Otherwise it stays in the car.
- A hold is open until it is released; it survives a restart, and a file that is put aside: then
  it goes on in the new log, and its Incident entry names the log of its record.
- No room on the disk: without its record there is no hold; one that has begun goes on in a new log,
  counts at once there, and is written as soon as there is room.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from typing import Final, Protocol

from agent.pb import ledger_pb2
from agent.vault.log import Log, New
from agent.vault.room import Dropped
from agent.vault.segment import Piece, check_recorded
from agent.vault.shelves import Shelf, held_shelf, ranges
from agent.vault.spool import Transaction

NOT_YET: Final = -1  # index of an entry that follows when there is room
MAX_OPEN: Final = 256  # holds; a policy has at most 64 events

Also = Callable[[Transaction, int], None]


class Attempt(Protocol):
    """Appends as `Log.append` does; None if there is no room, whatever was tried."""

    def __call__(
        self, news: list[New], *, dropped: Dropped | None = None, also: Also | None = None
    ) -> int | None:
        """Append."""


@dataclass(frozen=True, slots=True)
class Hold:
    """A piece of recorded time that an event keeps.

    Attributes:
        record: index of the sealed EventRecord.
        from_ns: on the axis of recorded time.
        to_ns: inclusive; may lie ahead.
        upload: its segments go to the region.
        keep_s: how long the car may keep them, s; 0: no limit.
        log: of the record, 16 bytes; empty: this one.
    """

    record: int
    from_ns: int
    to_ns: int
    upload: bool
    keep_s: int = 0
    log: bytes = b""

    def __post_init__(self) -> None:
        check_recorded(self.from_ns, self.to_ns)
        if self.record < 0 or self.keep_s < 0:
            raise ValueError(f"record {self.record}, keep {self.keep_s} s")

    def wants(self, recorded: tuple[int, int]) -> bool:
        """Whether a segment from..to overlaps it."""
        return recorded[0] <= self.to_ns and recorded[1] >= self.from_ns


@dataclass(frozen=True, slots=True)
class Stand:
    """Where a new segment of the recorder stands, and for how long."""

    shelf: Shelf
    keep_s: int
    also: Also | None


class Incidents:
    """The open holds of one log.

    Args:
        log: with the recorder's segments.
        attempt: appends, making room.
        keep: turns a time to keep, s, into what `item.keep` holds.
    """

    def __init__(self, log: Log, attempt: Attempt, keep: Callable[[int], int]) -> None:
        self._log, self._attempt, self._keep = log, attempt, keep
        self._open = {
            row[0]: Hold(row[0], row[2], row[3], bool(row[4]), row[5], row[1])
            for row in log.spool.rows("SELECT * FROM hold ORDER BY record")
        }
        self._unwritten: set[int] = set()
        self._ending: dict[int, ledger_pb2.Incident] = {}

    def holds(self) -> list[Hold]:
        """Return the open holds."""
        return list(self._open.values())

    def check_room(self) -> None:
        """Refuse one hold too many.

        Raises:
            ValueError: too many are open.
        """
        if len(self._open) >= MAX_OPEN:
            raise ValueError(f"{MAX_OPEN} holds are open")

    def make_way(self) -> None:
        """Close the hold whose record, of the log before, has by chance the number of the next."""
        while self._log.size in self._open:  # the entry that this writes takes that number
            self.release(self._log.size, ledger_pb2.Incident.INTERRUPTED)

    def begin(self, piece: Piece, record: int) -> tuple[Hold, Also]:
        """Return a hold, and what stores it in the transaction that stores its record.

        Args:
            piece: what it holds.
            record: index of the sealed EventRecord.
        """
        hold = Hold(record, piece.from_ns, piece.to_ns, piece.upload, piece.keep_s)
        return hold, partial(self._store, hold)

    def begun(self, hold: Hold) -> None:
        """Take note of a hold that `begin` made and that is stored now."""
        self._open[hold.record] = hold

    def hold(self, new: Hold) -> None:
        """Open a hold of a record that is stored already, or widen the open one of that record.

        Raises:
            ValueError: too many are open.
            SpoolError: the storage failed.
        """
        old = self._open.get(new.record)
        if old is not None and old.log != new.log:  # of the log before, by chance the same number
            self.release(old.record, ledger_pb2.Incident.INTERRUPTED)
            old = None
        if old is None:
            self.check_room()
        else:
            first, last = min(old.from_ns, new.from_ns), max(old.to_ns, new.to_ns)
            new = replace(new, from_ns=first, to_ns=last, upload=old.upload or new.upload)
        self._open[new.record] = new
        self._unwritten.add(new.record)
        self.write_down()

    def stand(self, recorded: tuple[int, int], keep_s: int) -> Stand:
        """Return where a segment that is to be sealed stands; `keep_s` is its rule's own."""
        wanting = [hold for hold in self._open.values() if hold.wants(recorded)]
        if not wanting:
            return Stand(Shelf.RECORDER, keep_s, None)
        shelf = held_shelf(Shelf.RECORDER, upload=any(hold.upload for hold in wanting))
        keeps = [hold.keep_s for hold in wanting]
        also = partial(_list, [hold.record for hold in wanting])
        return Stand(shelf, max(keeps) if all(keeps) else 0, also)

    def release(self, record: int, state: int) -> tuple[list[ledger_pb2.Range], int]:
        """Close a hold: nothing more is locked for it, and its Incident entry is written.

        Returns:
            What it has held, and the entry's index; NOT_YET if that follows when there is room.

        Raises:
            ValueError: it is not open.
            SpoolError: the storage failed.
        """
        if record not in self._open:
            raise ValueError(f"no hold of record {record} is open")
        self.write_down()
        hold = self._open.pop(record)
        self._unwritten.discard(record)
        rows = self._log.spool.rows("SELECT i FROM held WHERE record=? ORDER BY i", (record,))
        held = self._ranges([row[0] for row in rows])
        self._ending[record] = ledger_pb2.Incident(
            record=record, held=held, upload=hold.upload, log=hold.log,
            state=ledger_pb2.Incident.State.Name(state),
        )  # fmt: skip
        index = self._end(record)
        return held, NOT_YET if index is None else index

    def write_down(self) -> None:
        """Write what had no room so far."""
        for record in sorted(self._unwritten):
            if self._attempt([], also=partial(self._store, self._open[record])) is None:
                return
            self._unwritten.discard(record)
        for record in list(self._ending):
            self._end(record)

    def adopt(self, old: Incidents) -> None:
        """Go on with the open holds of a log that was put aside."""
        for hold in old.holds():
            self.hold(replace(hold, log=hold.log or old._log.log))

    def _end(self, record: int) -> int | None:
        index = self._attempt([New(self._ending[record])], also=partial(_forget, record))
        if index is not None:
            del self._ending[record]
        return index

    def _store(self, hold: Hold, transaction: Transaction, _: int) -> None:
        transaction.run(
            "INSERT OR REPLACE INTO hold VALUES(?,?,?,?,?,?)",
            (hold.record, hold.log, hold.from_ns, hold.to_ns, int(hold.upload), hold.keep_s),
        )
        keep = self._keep(hold.keep_s)
        for number, i, size, before in transaction.run(
            "SELECT shelf, i, bytes, keep FROM item"
            " WHERE recorded_to>=? AND recorded_from<=? AND bytes>0",
            (hold.from_ns, hold.to_ns),
        ).fetchall():
            shelf = Shelf(number)
            is_new = shelf in (Shelf.RECORDER, Shelf.HELD)  # else another hold's term counts too
            after = keep if is_new else self._later(before, keep)
            if after != before:
                transaction.run("UPDATE item SET keep=? WHERE shelf=? AND i=?", (after, number, i))
            to = held_shelf(shelf, upload=hold.upload)
            if to != shelf:
                transaction.move(shelf, to, i, size)
            _list([hold.record], transaction, i)

    def _later(self, one: int, other: int) -> int:
        """Return which of two values of `item.keep` lets a body stay longer."""
        if not one or not other:
            return 0
        now_s = self._log.time.trusted()[0] // 10**9
        return max(one, other, key=lambda keep: keep if keep > 0 else now_s - keep)

    def _ranges(self, indices: list[int]) -> list[ledger_pb2.Range]:
        """Return the recorder's segments as ranges: entries of other kinds may lie inside."""
        if not indices:
            return []
        others = self._log.spool.rows(
            "SELECT i FROM item WHERE shelf IN (?,?) AND i BETWEEN ? AND ?",
            (int(Shelf.RECORDER), int(Shelf.HELD), indices[0], indices[-1]),
        )
        return _spans(indices, (row[0] for row in others))


def _list(records: Iterable[int], transaction: Transaction, i: int) -> None:
    for record in records:
        transaction.run("INSERT OR IGNORE INTO held VALUES(?,?)", (record, i))


def _forget(record: int, transaction: Transaction, _: int) -> None:
    transaction.run("DELETE FROM hold WHERE record=?", (record,))
    transaction.run("DELETE FROM held WHERE record=?", (record,))


def _spans(held: list[int], others: Iterable[int]) -> list[ledger_pb2.Range]:
    """Return ascending indices as the fewest ranges that hold none of the others."""
    numbered = sorted([*((i, True) for i in held), *((i, False) for i in others)])
    places = [place for place, (_, is_held) in enumerate(numbered) if is_held]
    return [
        ledger_pb2.Range(first=numbered[run.first][0], last=numbered[run.last][0])
        for run in ranges(places)
    ]
