"""The part of the vault that keeps what an event holds, and lets go of the rest: see `Vault`.

Called by the sealer's thread alone. Everything here is durable when it returns.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from threading import RLock
from typing import TypeVar

from agent.errors import SpoolCorruptError, SpoolError, SpoolFullError
from agent.pb import ledger_pb2
from agent.vault.incidents import Hold
from agent.vault.log import Log
from agent.vault.scribe import Scribe

T = TypeVar("T")


class Holding(ABC):
    """Holds, the recorder's window, withdrawals, and small values that are remembered."""

    _scribe: Scribe
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
        return self._mending(lambda: self._scribe.incidents.release(record, state))

    def holds(self) -> list[Hold]:
        """Return the open holds; after a restart, those that the last run left open."""
        return self._scribe.incidents.holds()

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
        return self._mending(lambda: self._scribe.forgetting.roll(window_ns))

    def withdraw(self, category: str) -> int:
        """Drop every body that is kept under a consent, confirmed or not.

        From here on `take` hands out none of them, also if the disk is too full to drop them now,
        or if the process ends meanwhile: the next round goes on with it.

        Returns:
            How many went.
        """
        with self._hatch:
            try:
                return self._mending(lambda: self._scribe.forgetting.withdraw(category))
            except SpoolFullError:
                self._scribe.relieve()
                return 0

    def remember(self, key: str, value: bytes) -> None:
        """Keep a small value over restarts, durably; an empty one is forgotten.

        Raises:
            ValueError: over 63 keys, a key over 64 characters, or a value over 64 KiB.
        """
        self._mending(lambda: self._scribe.memory.set(key, value))

    def remembered(self, key: str) -> bytes | None:
        """Return what was remembered; None if nothing was."""
        return self._scribe.memory.get(key)
