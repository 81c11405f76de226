"""What leaves through the hatch and what comes back: used by the hatch's thread alone.

- `take` costs O(count + skip) however long the backlog is. The hash of each body is checked before
  it is handed out, and each entry against its leaf: bit rot is reported, never uploaded as truth.
  Without a body the others go on; an entry that is not the one in the tree is damage of the file,
  and what does not lead from head to head is not sent either: the region would take it for forged.
- A session is offered before any segment of it, although the sealer commits between two queries of
  one `take`: what was appended after its first look is left for the next one. A session has a
  lower index than its segments, so whoever sees the segment below that bound sees the session.
- `receipt` confirms only what the region signed for, leaf by leaf. What is turned away, and what is
  rotten, is left in `found` for the sealer to write into the ledger: one thread appends.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from threading import Lock
from typing import Final

from agent.errors import SealError, SpoolCorruptError, SpoolFullError
from agent.pb import delivery_pb2, hatch_pb2
from agent.vault import checkpoint, tree
from agent.vault.identity import Identity
from agent.vault.intact import is_intact, is_leaf
from agent.vault.log import set_meta
from agent.vault.receipts import RefusedReceiptError, verify_receipt
from agent.vault.shelves import BODILESS, TOPIC, WAITING, Shelf, confirmed_shelf
from agent.vault.spool import Spool, Transaction
from agent.vault.timekeeper import Timekeeper

MAX_ROTTEN: Final = 1024  # known at once; the sealer clears them every second
MAX_CODES: Final = 64

_log = logging.getLogger(__name__)

Skip = Mapping[bytes, Collection[int]]


class Found:
    """What the hatch's thread found and the sealer's thread shall write down."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._refused: dict[str, int] = {}
        self.rotten: set[int] = set()
        self.withdrawn: dict[str, int] = {}  # not handed out: category, below this index
        self.head_asked = False  # somebody wants a signed head that covers what is here now
        self.in_a_hurry = False  # and waits for the region's co-signature

    def refuse(self, code: str) -> None:
        """Count a receipt that was turned away."""
        with self._lock:
            if code in self._refused or len(self._refused) < MAX_CODES:
                self._refused[code] = self._refused.get(code, 0) + 1

    def refused(self) -> dict[str, int]:
        """Return and forget the counts by code."""
        with self._lock:
            counts, self._refused = self._refused, {}
        return counts


class Outbound:
    """The hatch's view of one spool."""

    def __init__(
        self, spool: Spool, log: bytes, identity: Identity, time: Timekeeper, found: Found
    ) -> None:
        self._spool, self._log = spool, log
        self._identity, self._time, self._found = identity, time, found
        self.confirmed = 0  # since the start
        # When the region said so (ns since the Unix epoch), and the SHA-256 of the policy bundle
        # that it has for this car; empty: none. An older receipt that is played again is not news.
        self.offered = (0, b"")

    def take(self, count: int, max_bytes: int, skip: Skip) -> tuple[list[hatch_pb2.Outgoing], int]:
        """Return the most urgent entries that wait and are not in `skip`, and how many wait in all.

        Args:
            count: at most so many.
            max_bytes: of entries and bodies, unless the first alone is larger.
            skip: indices under way, by log.

        Raises:
            SpoolError: see `spool.translate`.
        """
        out: list[hatch_pb2.Outgoing] = []
        left = max_bytes
        for outgoing in self._waiting(skip) if count > 0 else ():
            size = len(outgoing.upload.entry) + len(outgoing.upload.body)
            if out and size > left:
                break
            out.append(outgoing)
            left -= size
            if len(out) >= count:
                break
        return out, self._spool.tally.waiting()

    def _waiting(self, skip: Skip) -> Iterator[hatch_pb2.Outgoing]:
        tally = self._spool.tally
        # A bound instead of one transaction around all queries: that would keep the write-ahead
        # log from being put away meanwhile.
        end = self._spool.one("SELECT coalesce(max(i) + 1, 0) FROM ledger")
        for shelf in WAITING:
            if tally.salvaged:
                yield from self._salvaged(shelf, skip)
            if tally.entries[shelf]:
                yield from self._own(shelf, skip.get(self._log, ()), end)

    def _own(self, shelf: Shelf, skip: Collection[int], end: int) -> Iterator[hatch_pb2.Outgoing]:
        skip = frozenset(skip)
        # Read in small pages, so that no cursor stays open while the sealer writes.
        last, page = -1, 64
        while True:
            rows = self._spool.rows(
                "SELECT i, consent, leaf FROM item WHERE shelf=? AND i>? AND i<?"
                " ORDER BY i LIMIT ?",
                (int(shelf), last, end, page),
            )
            for i, consent, leaf in rows:
                if i in skip or i < self._found.withdrawn.get(consent, 0):
                    continue
                if (outgoing := self._outgoing(shelf, i, leaf)) is not None:
                    yield outgoing
            if len(rows) < page:
                return
            last = rows[-1][0]

    def _outgoing(self, shelf: Shelf, i: int, leaf: bytes) -> hatch_pb2.Outgoing | None:
        stored = self._spool.one("SELECT entry FROM ledger WHERE i=?", (i,))
        if stored is not None and not is_leaf(stored, leaf):
            raise SpoolCorruptError(
                f"entry {i} is not the one in the tree", where=str(self._spool.path)
            )
        body = b""
        if shelf not in BODILESS:
            body = self._spool.one("SELECT blob FROM body WHERE i=?", (i,)) or b""
        if stored is None or not (body or shelf in BODILESS or shelf == Shelf.SESSION):
            return None  # evicted since the page was read: it stands on another shelf now
        if body and i in self._found.rotten:
            return None
        if body and not is_intact(stored, body):
            if len(self._found.rotten) < MAX_ROTTEN:
                self._found.rotten.add(i)
            return None
        return _pack(shelf, self._log, i, stored, body)

    def _salvaged(self, shelf: Shelf, skip: Skip) -> Iterator[hatch_pb2.Outgoing]:
        last, page = -1, 64
        while True:
            rows = self._spool.rows(
                "SELECT n, log, i, consent FROM salvage WHERE shelf=? AND n>? ORDER BY n LIMIT ?",
                (int(shelf), last, page),
            )
            for n, log, i, consent in rows:
                if i in skip.get(log, ()) or consent in self._found.withdrawn:
                    continue
                for entry, blob, leaf in self._spool.rows(
                    "SELECT entry, blob, leaf FROM salvage WHERE n=?", (n,)
                ):
                    if not is_leaf(entry, leaf):
                        self._give_up(n)
                        continue
                    sent = blob and shelf not in BODILESS and is_intact(entry, blob)
                    body = blob if sent else b""
                    yield _pack(shelf, log, i, entry, body)
            if len(rows) < page:
                return
            last = rows[-1][0]

    def _give_up(self, n: int) -> None:
        """Let go of a carried-over entry that has rotted here: its log's gap entry explains it."""
        with suppress(SpoolFullError), self._spool.write() as transaction:  # else the next time
            transaction.run("DELETE FROM salvage WHERE n=?", (n,))
            transaction.salvaged -= 1
            _log.warning("an entry of the log before does not match its hash; dropped")

    def receipt(self, payload: bytes) -> tuple[int, bool]:
        """Take a SignedReceipt; returns (entries that it confirmed, whether it was one).

        A time that is news is durable on return. What else a power cut takes back comes again: the
        region answers an entry that it has with a receipt.

        Raises:
            SpoolError: see `spool.translate`; nothing was confirmed.
        """
        try:
            receipt = verify_receipt(
                payload, receipt_keys=self._identity.receipt_keys, vehicle=self._identity.vehicle
            )
        except RefusedReceiptError as refused:
            self._found.refuse(refused.code)
            return 0, False
        self.offered = max(self.offered, (receipt.region_unix_ns, receipt.policy))
        learnt = self._time.learn(receipt.region_unix_ns)
        wrong = confirmed = 0
        hollow = frozenset(receipt.hollow)
        with self._spool.write(synced=learnt) as transaction:
            for i, leaf in zip(receipt.index, receipt.leaf, strict=True):
                done = self._confirm(transaction, receipt.log, i, leaf, i in hollow)
                confirmed += done is True
                wrong += done is None
            if learnt and (floor := self._time.floor_ns()) is not None:
                set_meta(transaction, "floor", floor.to_bytes(8, "big"))
            if receipt.cosigned:
                self._cosigned(transaction, receipt.cosigned)
        for _ in range(wrong):
            self._found.refuse("leaf")
        self.confirmed += confirmed
        return confirmed, wrong == 0

    def _confirm(
        self, transaction: Transaction, log: bytes, i: int, leaf: bytes, hollow: bool
    ) -> bool | None:
        """Return True if confirmed now, False if not, None if it is not our entry.

        A receipt for an entry without its body does not confirm one whose body is to go: the
        recorder's segment may have been held since, and an uplink may have stripped the body.
        """
        if i >= 2**63:
            return None
        if log != self._log:
            return self._confirm_salvaged(transaction, log, i, leaf, hollow)
        row = transaction.run("SELECT entry FROM ledger WHERE i=?", (i,)).fetchone()
        if row is None or tree.leaf_hash(row[0]) != leaf:
            return None
        return _settle(transaction, i, hollow)

    def _confirm_salvaged(
        self, transaction: Transaction, log: bytes, i: int, leaf: bytes, hollow: bool
    ) -> bool | None:
        row = transaction.run(
            "SELECT n, entry, shelf, blob IS NOT NULL FROM salvage WHERE log=? AND i=?", (log, i)
        ).fetchone()
        if row is None:
            return False  # confirmed before, or lost with the quarantined file: nothing to delete
        if tree.leaf_hash(row[1]) != leaf:
            return None
        shelf, has_body = Shelf(row[2]), row[3]
        if shelf not in WAITING or (has_body and hollow and shelf not in BODILESS):
            return False
        if has_body and shelf == Shelf.LOCKED:
            transaction.run("UPDATE salvage SET shelf=? WHERE n=?", (int(Shelf.KEPT), row[0]))
        else:
            transaction.run("DELETE FROM salvage WHERE n=?", (row[0],))
        transaction.salvaged -= 1
        return True

    def _cosigned(self, transaction: Transaction, text: str) -> None:
        try:
            note = checkpoint.parse(text)
            times = [checkpoint.verify(note, key) for key in self._identity.witnesses()]
        except SealError:
            self._found.refuse("cosignature")
            return
        row = transaction.run(
            "SELECT note FROM checkpoint WHERE size=?", (note.checkpoint.size,)
        ).fetchone()
        if row is None:
            return  # replaced by a newer one meanwhile
        # Only a signature over the very head that we signed is a witness of ours.
        if not any(times) or not row[0].startswith(note.checkpoint.body() + "\n"):
            self._found.refuse("cosignature")
            return
        transaction.run(
            "UPDATE checkpoint SET cosigned=? WHERE size=?", (text, note.checkpoint.size)
        )

    def wants_head(self) -> bool:
        """Return whether a head was signed because somebody waits for the region to co-sign it."""
        return self._found.in_a_hurry and not self._found.head_asked

    def checkpoint(self, *, now: bool = False) -> delivery_pb2.CheckpointUpload | None:
        """Return the newest signed head, with its proof from the last co-signed one.

        None if the region has co-signed it already, or if none is signed yet; then the sealer's
        next round signs what has come since, for whoever asks again.

        Args:
            now: let it sign in any case, and let the region know of it at once.

        Raises:
            SpoolError: see `spool.translate`.
        """
        if now:
            self._found.head_asked = self._found.in_a_hurry = True
        elif self.wants_head():
            self._found.in_a_hurry = False  # uplink has come for it
        rows = self._spool.rows(
            "SELECT size, note, cosigned IS NOT NULL FROM checkpoint ORDER BY size DESC LIMIT 1"
        )
        if not rows or rows[0][2]:
            self._found.head_asked = True
            return None
        size, note, _ = rows[0]
        rows = self._spool.rows(
            "SELECT size, note FROM checkpoint WHERE cosigned IS NOT NULL"
            " ORDER BY size DESC LIMIT 1"
        )
        old, known = rows[0] if rows else (0, "")
        proof = tree.consistency_proof(old, size, self._spool.node)
        if old and not _leads(known, note, proof):
            raise SpoolCorruptError(
                f"the ledger does not lead from {old} to {size}", where=str(self._spool.path)
            )
        return delivery_pb2.CheckpointUpload(log=self._log, note=note, from_size=old, proof=proof)


def _settle(transaction: Transaction, i: int, hollow: bool) -> bool:
    """Take an entry that the region has off its waiting shelf; returns whether it waited."""
    for shelf in WAITING:
        item = transaction.run(
            "SELECT bytes FROM item WHERE shelf=? AND i=?", (int(shelf), i)
        ).fetchone()
        if item is not None and item[0]:
            if hollow and shelf not in BODILESS:
                return False
            transaction.move(shelf, confirmed_shelf(shelf), i, item[0])
            return True
        if item is not None:
            transaction.take_off(shelf, i, 0)
            return True
    return False


def _leads(old: str, new: str, proof: tuple[bytes, ...]) -> bool:
    """Return whether a proof leads from one note's head to another's."""
    try:
        first, last = checkpoint.parse(old).checkpoint, checkpoint.parse(new).checkpoint
    except SealError:
        return False
    return tree.verify_consistency(first.size, last.size, first.root, last.root, proof)


def _pack(shelf: Shelf, log: bytes, i: int, entry: bytes, body: bytes) -> hatch_pb2.Outgoing:
    upload = delivery_pb2.Upload(log=log, index=i, entry=entry, body=body)
    return hatch_pb2.Outgoing(lane=TOPIC[shelf], upload=upload)
