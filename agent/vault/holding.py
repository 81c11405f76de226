"""The part of the vault that keeps what an event holds, and lets go of the rest: see `Vault`.

Called by the sealer's thread alone. Everything here is durable when it returns.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from threading import RLock
from typing import TypeVar

from agent.errors import SpoolCorruptError, SpoolError, SpoolFullError
from agent.pb import ledger_pb2
from agent.vault import parting, tree
from agent.vault.incidents import Hold
from agent.vault.log import Log
from agent.vault.sealer import Sealer

T = TypeVar("T")


class Holding(ABC):
    """Holds, the recorder's window, withdrawals, and small values that are remembered."""

    _sealer: Sealer
    _log: Log
    _hatch: RLock

    @abstractmethod
    def _exchange(self, error: SpoolError) -> None:
        """Put a damaged file aside and go on with a new log."""

    def _mending(self, work: Callable[[], T]) -> T:
        """Do it; if the file turns out to be damaged, once more in a new log."""
        try:
            return work()
        except SpoolCorruptError as error:
            self._exchange(error)
            return work()

    def release(self, record: int, *, state: int) -> tuple[list[ledger_pb2.Range], int]:
        """End a hold: no further segments. Its Incident entry is written.

        Args:
            record: index of the entry whose draft `holds` it.
            state: ledger_pb2.Incident.COMPLETE or INTERRUPTED.

        Returns:
            The ranges of entries whose recorder segments it has held, and the index of the entry;
            -1 if the disk is full: it follows as soon as there is room.

        Raises:
            ValueError: no hold of that record is open.
        """
        return self._mending(lambda: self._sealer.incidents.release(record, state))

    def holds(self) -> list[Hold]:
        """Return the open holds; after a restart, those that the last run left open."""
        return self._sealer.incidents.holds()

    def recorded_ns(self) -> int:
        """Return the end of the axis of recorded time, ns: where the next segment begins."""
        return self._log.recorded_ns

    def roll(self, window_ns: int) -> int:
        """Drop the recorder's segments, not held ones, that ended before the window.

        At most 256 a call, and once a minute unless the window is another or more are left; so it
        may be called with every round.

        Args:
            window_ns: recorded time before `recorded_ns` that stays; negative: nothing stays.

        Returns:
            How many went.
        """
        return self._mending(lambda: self._sealer.forgetting.roll(window_ns))

    def withdraw(self, category: str) -> int:
        """Drop every body that is kept under a consent, confirmed or not.

        From here on `take` hands out none of them, also if the disk is too full to drop them now,
        or if the process ends meanwhile: the next round goes on with it.

        Returns:
            How many went.
        """
        with self._hatch:
            try:
                return self._mending(lambda: self._sealer.forgetting.withdraw(category))
            except SpoolFullError:
                self._sealer.relieve()
                return 0

    @property
    def log_id(self) -> bytes:
        """The id of the ledger, 16 bytes."""
        return self._log.log

    def survey(self) -> parting.Survey:
        """Return what a transfer would take out."""
        return parting.survey(self._log.spool.rows)

    def part(
        self, what: ledger_pb2.Transfer, gone: Sequence[int], forget: Sequence[str]
    ) -> tuple[int, str]:
        """Take out what was a former owner's, once; what is open of an event ends here.

        Args:
            what: the entry; its `to_epoch` tells whether this was done before.
            gone: indices of the bodies, as `parting.survey` found them; those that are gone are
                passed over.
            forget: keys of what is remembered.

        Returns:
            The index of the Transfer entry, and a checkpoint that covers it.

        Raises:
            SpoolFullError: there is no room for the entries; it can be done again.
        """
        with self._hatch:
            for hold in self.holds():
                self.release(hold.record, state=ledger_pb2.Incident.INTERRUPTED)
            self._sealer.end_sessions()
            self._sealer.memory.forget(*forget)
            index = parting.part(self._log, self._sealer.append, what, gone)
            self._sealer.sign()
            note = self._log.spool.one("SELECT note FROM checkpoint ORDER BY size DESC LIMIT 1")
            return index, str(note)

    def entry(self, index: int) -> tuple[bytes, tuple[bytes, ...], int]:
        """Return an entry as stored, its inclusion proof in the newest checkpoint, and its size."""
        spool = self._log.spool
        stored = spool.one("SELECT entry FROM ledger WHERE i=?", (index,))
        size = int(spool.one("SELECT max(size) FROM checkpoint"))
        return bytes(stored), tree.inclusion_proof(index, size, spool.node), size

    def remember(self, key: str, value: bytes) -> None:
        """Keep a small value over restarts, durably; an empty one is forgotten.

        Raises:
            ValueError: over 63 keys, a key over 64 characters, or a value over 64 KiB.
        """
        self._mending(lambda: self._sealer.memory.set(key, value))

    def remembered(self, key: str) -> bytes | None:
        """Return what was remembered; None if nothing was."""
        return self._sealer.memory.get(key)
