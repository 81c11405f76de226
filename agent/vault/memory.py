"""What the agent must not forget over a restart: a few small values by name.

Everything is in memory and written through, durably. Without room on the disk a value is kept and
written as soon as there is room.
"""

from __future__ import annotations

from typing import Final

from agent.errors import SpoolFullError
from agent.vault.spool import Spool

MAX_KEYS: Final = 63
MAX_KEY: Final = 64  # characters
MAX_VALUE: Final = 64 * 1024  # bytes


class Memory:
    """The table `memory` of one spool; used by the sealer's thread alone."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self._values: dict[str, bytes] = dict(spool.rows("SELECT k, v FROM memory"))
        self._unwritten: set[str] = set()

    def get(self, key: str) -> bytes | None:
        """Return a value; None if there is none."""
        return self._values.get(key)

    def set(self, key: str, value: bytes) -> None:
        """Keep a value; an empty one forgets the key.

        Raises:
            ValueError: too many keys, or a key or value that is too long.
            SpoolError: the storage failed.
        """
        if not 0 < len(key) <= MAX_KEY or len(value) > MAX_VALUE:
            raise ValueError(f"cannot remember {len(value)} bytes as {key[:MAX_KEY]!r}")
        if self._values.get(key, b"") == value:
            return
        if value and key not in self._values and len(self._values) >= MAX_KEYS:
            raise ValueError(f"{MAX_KEYS} keys are remembered already")
        if value:
            self._values[key] = value
        else:
            del self._values[key]
        self._unwritten.add(key)
        self.write_down()

    def forget(self, *keys: str) -> None:
        """Forget values, in the file too: their bytes are overwritten.

        Raises:
            SpoolError: the storage failed.
        """
        for key in keys:
            self._values.pop(key, None)
            self._unwritten.discard(key)
        self._spool.rows("PRAGMA secure_delete=ON")
        try:
            with self._spool.write() as transaction:
                for key in keys:
                    transaction.run("DELETE FROM memory WHERE k=?", (key,))
        finally:
            self._spool.rows("PRAGMA secure_delete=OFF")
        self._spool.checkpoint_wal()  # else the write-ahead log has the page as it was

    def write_down(self) -> None:
        """Write what is not on the disk yet.

        Raises:
            SpoolError: the storage failed.
        """
        if not self._unwritten:
            return
        try:
            with self._spool.write() as transaction:
                for key in self._unwritten:
                    transaction.run("DELETE FROM memory WHERE k=?", (key,))
                    if key in self._values:
                        transaction.run("INSERT INTO memory VALUES(?,?)", (key, self._values[key]))
        except SpoolFullError:
            return  # the next round writes it
        self._unwritten.clear()

    def adopt(self, old: Memory) -> None:
        """Take over all of a spool that was put aside."""
        self._unwritten = set(self._values) | set(old._values)
        self._values = dict(old._values)
        self.write_down()
