"""The car's log: entries appended to ledger and tree, with their bodies, one transaction each time.

The sealer's thread alone uses it. Every append is durable when it returns; the tree in memory moves
only after the commit, so a transaction that fails leaves no trace.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from google.protobuf.message import Message

from agent.pb import ledger_pb2
from agent.vault import checkpoint, tree
from agent.vault.identity import Identity
from agent.vault.room import Dropped, drop_entries, make_room
from agent.vault.shelves import Shelf
from agent.vault.spool import NOWHERE, Spool, Transaction
from agent.vault.tiles import TILE_HEIGHT
from agent.vault.timekeeper import Timekeeper

KEPT_CHECKPOINTS: Final = 4096  # co-signed ones: they say when the region saw what
_FIELD: Final = {
    field.message_type.name: field.name
    for field in ledger_pb2.Entry.DESCRIPTOR.oneofs_by_name["what"].fields
    if field.message_type is not None
}


@dataclass(frozen=True, slots=True)
class New:
    """An entry that is to be appended.

    Attributes:
        what: the message of the entry.
        body: what its hash names; empty: none.
        shelf: where it waits.
        session: index of the session entry that its body needs; its own index for a session;
            0: none.
        keep: when the body expires, s since the epoch; negative: so many seconds from when the
            region's time is known; 0: no limit.
        recorded: from and to on the axis of recorded time, ns; NOWHERE: not of the recorder.
        consent: category of the consent that the body is kept under; empty: none.
    """

    what: Message
    body: bytes = b""
    shelf: Shelf = Shelf.SESSION
    session: int = 0
    keep: int = 0
    recorded: tuple[int, int] = NOWHERE
    consent: str = ""


class Log:
    """One ledger: its id, its tree, its place in the spool."""

    def __init__(self, spool: Spool, log: bytes, time: Timekeeper) -> None:
        self.spool, self.log, self.time = spool, log, time
        self.tree = spool.load_tree()
        self.dropped: dict[int, int] = {}  # bodies by Drop.Reason since the start
        # The end of the axis of recorded time, ns. It must not go back when its segments have left
        # the car, so it is written down with each drop.
        self.recorded_ns = axis_end(spool)

    @property
    def size(self) -> int:
        """Entries so far; the index of the next."""
        return self.tree.size

    def append(
        self, news: Sequence[New], *, dropped: Dropped | None = None,
        also: Callable[[Transaction, int], None] | None = None,
    ) -> int:  # fmt: skip
        """Append entries, durably; returns the index of the first.

        Bodies that have to go for them get their drop entries behind them in the same transaction.

        Args:
            news: the entries, of one shelf.
            dropped: bodies that the caller's own reasons remove in this transaction; their shelves
                and sizes are looked up.
            also: what else happens in this transaction, first of all; it is given the transaction
                and the index of the first entry.

        Raises:
            SpoolError: nothing was appended; see `spool.translate`.
        """
        first, compact = self.size, self.tree
        need = sum(len(new.body) + 256 for new in news)
        shelf = max((new.shelf for new in news), default=Shelf.SESSION)
        end_ns = max([self.recorded_ns, *(new.recorded[1] for new in news)])
        with self.spool.write() as transaction:
            if also is not None:
                also(transaction, first)
            for indices in (dropped or {}).values():
                for i in indices:
                    _remove(transaction, i)
            gone = make_room(transaction, self.spool, need, shelf)
            for reason, indices in (dropped or {}).items():
                gone.setdefault(reason, []).extend(indices)
            for new in (*news, *map(New, drop_entries(gone))):
                compact = self._insert(transaction, compact, new)
            if gone:
                set_meta(transaction, "recorded", end_ns.to_bytes(8, "big"))
        self.tree, self.recorded_ns = compact, end_ns
        for reason, indices in gone.items():
            self.dropped[reason] = self.dropped.get(reason, 0) + len(indices)
        return first

    def _insert(
        self, transaction: Transaction, compact: tree.CompactRange, new: New
    ) -> tree.CompactRange:
        i = compact.size
        entry = ledger_pb2.Entry(index=i, at=self.time.moment())
        getattr(entry, _FIELD[new.what.DESCRIPTOR.name]).CopyFrom(new.what)
        stored = entry.SerializeToString(deterministic=True)
        transaction.run("INSERT INTO ledger VALUES(?,?)", (i, stored))
        if new.body:
            transaction.run("INSERT INTO body VALUES(?,?)", (i, new.body))
        transaction.place(
            new.shelf, i, len(new.body), session=new.session, keep=new.keep,
            recorded=new.recorded, consent=new.consent,
        )  # fmt: skip
        if isinstance(new.what, ledger_pb2.PolicyInForce):
            set_meta(transaction, "policy", new.what.body)  # which the log names last
            self._note_highest(transaction)  # it may have ended by it
        compact, done = compact.append(tree.leaf_hash(stored))
        for subtree in done:
            if subtree.height and subtree.height % TILE_HEIGHT == 0:
                transaction.run(
                    "INSERT INTO tile VALUES(?,?,?)",
                    (subtree.height // TILE_HEIGHT - 1, subtree.position, subtree.hash),
                )
        return compact

    def sign(self, identity: Identity) -> None:
        """Write a checkpoint of the tree as it is now.

        Raises:
            SpoolError: it was not written.
        """
        head = checkpoint.Checkpoint(
            checkpoint.origin_of(identity.vehicle, self.log), self.size, self.tree.root()
        )
        note = checkpoint.sign(head, identity.ledger_key)
        with self.spool.write() as transaction:
            transaction.run("DELETE FROM checkpoint WHERE cosigned IS NULL")
            transaction.run(
                "DELETE FROM checkpoint WHERE size <="
                " (SELECT size FROM checkpoint ORDER BY size DESC LIMIT 1 OFFSET ?)",
                (KEPT_CHECKPOINTS,),
            )
            transaction.run("INSERT OR IGNORE INTO checkpoint VALUES(?,?,NULL)", (self.size, note))
            if (floor := self.time.floor_ns()) is not None:
                set_meta(transaction, "floor", floor.to_bytes(8, "big"))
            self._note_highest(transaction)

    def _note_highest(self, transaction: Transaction) -> None:
        set_meta(transaction, "highest", self.time.highest_ns().to_bytes(8, "big"))

    def note_floor(self) -> None:
        """Write down the floor of trusted time, if the region has signed one since the start.

        Raises:
            SpoolError: see `spool.translate`.
        """
        if (floor := self.time.floor_ns()) is not None:
            with self.spool.write() as transaction:
                set_meta(transaction, "floor", floor.to_bytes(8, "big"))


def axis_end(spool: Spool) -> int:
    """Return the end of the axis of recorded time as the spool knows it, ns.

    Raises:
        SpoolError: see `spool.translate`.
    """
    noted = int.from_bytes(spool.one("SELECT v FROM meta WHERE k='recorded'") or b"", "big")
    return max(noted, spool.one("SELECT max(recorded_to) FROM item") or 0)


def _remove(transaction: Transaction, i: int) -> None:
    for shelf in Shelf:
        size = transaction.run(
            "SELECT bytes FROM item WHERE shelf=? AND i=?", (int(shelf), i)
        ).fetchone()
        if size is not None:
            transaction.drop_body(shelf, i, size[0])
            return


def set_meta(transaction: Transaction, key: str, value: bytes) -> None:
    """Set one value of the table `meta`."""
    transaction.run("INSERT OR REPLACE INTO meta VALUES(?,?)", (key, value))
