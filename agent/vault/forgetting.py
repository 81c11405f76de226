"""What leaves the car by itself: by time, by the recorder's window, by a withdrawn consent.

Bodies go in groups; each group's drop entry is in the transaction that deletes them. Used by the
sealer's thread alone; a withdrawal also holds the hatch (vault.py), so that nothing of it is handed
out while it goes.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from agent.clock import REGION
from agent.pb import ledger_pb2
from agent.vault.incidents import Attempt
from agent.vault.log import Log, set_meta
from agent.vault.outbound import Found
from agent.vault.shelves import Shelf

GROUP: Final = 256  # bodies that leave in one transaction
ROLL_NS: Final = 60 * 10**9  # one drop entry a minute and not one a second
_LOOK: Final = 4096  # indices that one look at all rows finds
_MARK: Final = "withdraw "  # key in meta of a withdrawal that is not over


class Forgetting:
    """The deletions of one log that nobody needs room for.

    Args:
        log: whose bodies.
        attempt: appends, making room.
        found: tells the hatch what is withdrawn and still here.
    """

    def __init__(self, log: Log, attempt: Attempt, found: Found) -> None:
        self._log, self._attempt, self._found = log, attempt, found
        self._rolled: tuple[int, int] | None = None  # window, and when: CLOCK_BOOTTIME
        for key, bound in log.spool.rows(
            "SELECT k, v FROM meta WHERE substr(k, 1, ?)=?", (len(_MARK), _MARK)
        ):
            found.withdrawn[key.removeprefix(_MARK)] = int.from_bytes(bound, "big")

    def expire(self) -> None:
        """Drop the bodies whose time is over.

        Raises:
            SpoolError: see `spool.translate`.
        """
        unix_ns, quality = self._log.time.trusted()
        if quality != REGION:
            return  # only a time that the region signed may delete
        now_s = unix_ns // 10**9
        spool = self._log.spool
        for table in ("item", "salvage"):
            if spool.one(f"SELECT 1 FROM {table} WHERE keep<0 LIMIT 1") is not None:  # noqa: S608
                with spool.write() as transaction:
                    transaction.run(f"UPDATE {table} SET keep=?-keep WHERE keep<0", (now_s,))  # noqa: S608
        while rows := spool.rows(
            "SELECT i FROM item WHERE keep BETWEEN 1 AND ? AND bytes>0 LIMIT ?", (now_s, GROUP)
        ):
            self._log.append([], dropped={ledger_pb2.Drop.EXPIRED: [row[0] for row in rows]})
        over = "FROM salvage WHERE shelf=? AND keep BETWEEN 1 AND ?"
        values = (int(Shelf.KEPT), now_s)
        if spool.one(f"SELECT 1 {over} LIMIT 1", values) is not None:
            with spool.write() as transaction:  # its log is closed: the gap entry explains it
                transaction.run(f"DELETE {over}", values)

    def sweep(self, live: Collection[int]) -> None:
        """Let go of confirmed sessions that no body in the car needs any more.

        Args:
            live: indices of the sessions in use.

        Raises:
            SpoolError: see `spool.translate`.
        """
        rows = self._log.spool.rows(
            "SELECT i FROM item WHERE shelf=? AND session=i AND i NOT IN"
            " (SELECT session FROM item WHERE bytes>0 AND session<>i) LIMIT ?",
            (int(Shelf.PINNED), GROUP),
        )
        if gone := [row[0] for row in rows if row[0] not in live]:
            self._log.append([], dropped={ledger_pb2.Drop.CONFIRMED: gone})
        alone = (
            "FROM salvage WHERE shelf=?1 AND log NOT IN"
            " (SELECT log FROM salvage WHERE shelf<>?1 AND blob IS NOT NULL)"
        )
        pinned = (int(Shelf.PINNED),)
        if self._log.spool.one(f"SELECT 1 {alone} LIMIT 1", pinned) is not None:
            with self._log.spool.write() as transaction:  # its log is closed, as in `expire`
                transaction.run(f"DELETE {alone}", pinned)

    def roll(self, window_ns: int) -> int:
        """Drop the recorder's segments that have left the window; see `Vault.roll`."""
        now_ns = self._log.time.boottime_ns()
        if self._rolled is not None:
            window, at_ns = self._rolled
            if window == window_ns and 0 <= now_ns - at_ns < ROLL_NS:
                return 0
        old = self._older(self._log.recorded_ns - window_ns)
        gone = bool(old) and self._attempt([], dropped={ledger_pb2.Drop.ROLLED: old}) is not None
        # A full group: there may be more, which the next call takes.
        self._rolled = None if len(old) == GROUP else (window_ns, now_ns)
        return len(old) if gone else 0

    def _older(self, bound_ns: int) -> list[int]:
        """Return the oldest segments of the recorder that end before a point of its axis."""
        old: list[int] = []
        for shelf in (Shelf.HELD, Shelf.RECORDER):
            for i, to_ns in self._log.spool.rows(
                "SELECT i, recorded_to FROM item WHERE shelf=? ORDER BY i LIMIT ?",
                (int(shelf), GROUP),
            ):
                if to_ns >= bound_ns:
                    break  # what comes later on the shelf was recorded later
                old.append(i)
        return sorted(old)[:GROUP]

    def withdraw(self, category: str) -> int:
        """Drop what is kept under a consent; see `Vault.withdraw`.

        Raises:
            SpoolFullError: there was no room for it; `pursue` goes on, and `take` gives none of it.
        """
        self.begin(category)
        return self._pursue(category)

    def begin(self, category: str) -> None:
        """Hand out nothing more of what is kept under a consent; `pursue` drops it."""
        self._found.withdrawn[category] = self._log.size

    def pursue(self) -> None:
        """End the withdrawals that a crash or a full disk has stopped.

        Raises:
            SpoolError: see `spool.translate`.
        """
        for category in list(self._found.withdrawn):
            self._pursue(category)

    def _pursue(self, category: str) -> int:
        bound = self._found.withdrawn[category]
        gone = 0
        if self._labelled(category, bound) or self._salvaged(category):
            gone = self._mark(category, bound)
            while indices := self._labelled(category, bound):
                for at in range(0, len(indices), GROUP):
                    group = indices[at : at + GROUP]
                    self._log.append([], dropped={ledger_pb2.Drop.WITHDRAWN: group})
                gone += len(indices)
        self._unmark(category)
        del self._found.withdrawn[category]
        return gone

    def _labelled(self, category: str, bound: int) -> list[int]:
        rows = self._log.spool.rows(
            "SELECT i FROM item WHERE consent=? AND i<? AND bytes>0 LIMIT ?",
            (category, bound, _LOOK),
        )
        return [row[0] for row in rows]

    def _salvaged(self, category: str) -> bool:
        return bool(
            self._log.spool.one(
                "SELECT 1 FROM salvage WHERE consent=? AND blob IS NOT NULL LIMIT 1", (category,)
            )
        )

    def _mark(self, category: str, bound: int) -> int:
        """Note the withdrawal, so that a crash does not stop it; let go of salvaged bodies."""
        with self._log.spool.write() as transaction:
            set_meta(transaction, _MARK + category, bound.to_bytes(8, "big"))
            gone = transaction.run(
                "DELETE FROM salvage WHERE consent=? AND shelf=?", (category, int(Shelf.KEPT))
            ).rowcount
            gone += transaction.run(
                "UPDATE salvage SET blob=NULL, shelf=? WHERE consent=? AND blob IS NOT NULL",
                (int(Shelf.HOLLOW), category),
            ).rowcount
        return gone

    def _unmark(self, category: str) -> None:
        spool, key = self._log.spool, _MARK + category
        if spool.one("SELECT 1 FROM meta WHERE k=?", (key,)) is not None:
            with spool.write() as transaction:
                transaction.run("DELETE FROM meta WHERE k=?", (key,))
