"""The vault: what touches the disk is sealed, what is sealed is in the ledger.

    sealer thread   seal, record, admit, release, roll, withdraw, remember, housekeep, close
    hatch thread    take, receipt, checkpoint, status

- Safe for exactly these two threads: each has its own SQLite connection, the tree in memory belongs
  to the sealer, and what the hatch's thread finds out is written down by the next housekeep().
- seal() and record() return when the entry is on the disk.
- A full disk never raises here: what cannot be stored is counted and told as soon as it can be.
- A damaged file is put into quarantine while the agent runs on: a new log begins with a gap entry,
  and what was not confirmed and is still good is offered for upload under its old identity.
- A failing storage (fsync above all) raises SpoolError, for good: the process ends with 75 and is
  restarted, because only a new file handle tells the truth about what was written.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from threading import RLock
from typing import Final

from google.protobuf.message import Message

from agent.clock import Reading
from agent.digest import sha256
from agent.errors import SpoolCorruptError, SpoolError, SpoolFullError
from agent.pb import delivery_pb2, hatch_pb2, ledger_pb2
from agent.pb.moment_pb2 import Moment
from agent.vault import founding, salvage
from agent.vault.cpu import read_aead
from agent.vault.enrolled import Enrolled
from agent.vault.holding import Holding
from agent.vault.identity import Identity
from agent.vault.log import New, set_meta
from agent.vault.outbound import Found, Outbound, Skip
from agent.vault.room import Ballast, attainable
from agent.vault.scribe import Scribe
from agent.vault.segment import Draft
from agent.vault.spool import Size, Spool
from agent.vault.status import VaultStatus, read_status
from agent.vault.timekeeper import Timekeeper

MIN_QUOTA_BYTES: Final = 2 * 1024 * 1024
STARTED: Final = "started"  # PolicyInForce.why of a run that begins
_log = logging.getLogger(__name__)


class Vault(Holding):
    """See the module. Made by `open`."""

    def __init__(
        self, folder: Path, lock: int, *, identity: Identity, now: Callable[[], Moment],
        rng: Callable[[int], bytes], boot_id: bytes, version: str, quota_bytes: int,
    ) -> None:  # fmt: skip
        self._folder, self._lock_file = folder, lock
        self._identity, self._now, self._rng = identity, now, rng
        self._boot_id, self._version = boot_id, version
        self._size = Size(max(MIN_QUOTA_BYTES, attainable(folder, quota_bytes)))
        self._path = folder / "spool" / salvage.FILE
        self._hatch = RLock()  # held by the hatch's calls, and while the file is exchanged
        self._found = Found()
        self._is_damaged = self._is_closed = False
        self._policy: tuple[ledger_pb2.PolicyInForce, bytes] | None = None
        self._time: Timekeeper | None = None
        self._confirmed_before = 0  # by spools that were put aside since
        self._ballast = Ballast(folder / "ballast", self._size.ballast)
        try:
            self._open()
        except SpoolFullError:
            self._ballast.release()  # which the last run has kept for this
            self._open()

    def _open(self) -> None:
        try:
            self._begin(*founding.open_file(self._path, self._size))
        except SpoolCorruptError as error:
            self._begin_anew(error)

    @classmethod
    def open(
        cls, folder: Path, *, identity: Identity, now: Callable[[], Moment],
        rng: Callable[[int], bytes], boot_id: bytes, version: str, quota_bytes: int,
    ) -> Vault:  # fmt: skip
        """Open the state folder, mending or replacing what a crash or a bad disk left.

        Args:
            folder: made if it is not there, mode 0700.
            identity: names and keys.
            now: reads the clocks: wall time as unix_ns, CLOCK_BOOTTIME; quality is not looked at.
            rng: returns so many random bytes.
            boot_id: of this run of the car's computer, 16 bytes.
            version: of the agent, for the boot entry.
            quota_bytes: that the spool may take, WAL included.

        Raises:
            SpoolError: another agent uses the folder, the quota is too small, or the storage fails.
        """
        if quota_bytes < MIN_QUOTA_BYTES:
            raise SpoolError(
                f"a quota of {quota_bytes} bytes is too small", where="limits.spool",
                todo=f"give it at least {MIN_QUOTA_BYTES >> 20} MiB",
            )  # fmt: skip
        lock = founding.lock_folder(folder)
        try:
            return cls(
                folder, lock, identity=identity, now=now, rng=rng, boot_id=boot_id,
                version=version, quota_bytes=quota_bytes,
            )  # fmt: skip
        except BaseException:
            os.close(lock)
            raise

    def _begin(self, spool: Spool, clean: bool, why: str = "") -> None:
        """Take an open spool into use, or close it again."""
        try:
            self._take_into_use(spool, clean, why)
        except BaseException:
            # Closed before the file is renamed: SQLite removes a WAL by its name, and by then
            # that name could be the next file's.
            spool.close()
            raise

    def _take_into_use(self, spool: Spool, clean: bool, why: str) -> None:
        """Genesis, gap, boot; then the sealer's and the hatch's halves."""
        if self._time is None:  # else a file was exchanged, and what is known of the time stays
            self._time = Timekeeper(self._now, *(
                int.from_bytes(spool.one("SELECT v FROM meta WHERE k=?", (key,)) or b"", "big")
                for key in ("floor", "highest")
            ))  # fmt: skip
        log, fresh = founding.begin_log(spool, self._identity, self._time, self._rng)
        founding.carry_over(log, self._folder, why)
        log.note_floor()  # of this run, if a file was exchanged in the middle of it
        log.append([New(ledger_pb2.Boot(
            boot_id=self._boot_id, clean=clean or fresh, version=self._version
        ))])  # fmt: skip
        self._spool, self._log = spool, log
        self._scribe = Scribe(
            log, self._identity, rng=self._rng, boot_id=self._boot_id, aead=read_aead(),
            found=self._found, ballast=self._ballast,
        )  # fmt: skip
        if not self._ballast.hold():
            self._scribe.relieve()
        self._second = Spool(self._path, self._size, shared=spool, cache_kib=512)
        self._outbound = Outbound(self._second, log.log, self._identity, self._time, self._found)

    def _begin_anew(self, error: SpoolError) -> None:
        _log.error("%s; a new log begins", error)
        salvage.put_aside(self._folder)
        self._begin(*founding.open_file(self._path, self._size), why="corrupt")

    def _exchange(self, error: SpoolError) -> None:
        """Put a file that turned out to be damaged aside and go on with a new log."""
        with self._hatch:
            before = self._scribe
            before.end_sessions()
            self._confirmed_before += self._outbound.confirmed
            self._spool.close()
            self._second.close()
            self._found.rotten.clear()
            withdrawn = list(self._found.withdrawn)
            self._found.withdrawn.clear()
            self._begin_anew(error)
            self._scribe.adopt(before)
            for category in withdrawn:
                self._scribe.forgetting.begin(category)
            self._is_damaged = False
        if self._policy is not None:  # segments must find their dictionary in their own log
            self.decide_by(*self._policy)

    def seal(self, draft: Draft) -> int | None:
        """Seal a draft and store it, durably, with its entry and with what it holds.

        Of a draft that `holds` a piece of the recorder's window, the hold begins in the very
        transaction that stores it: what is here of the piece is locked, and what is sealed later.
        Locked segments are not rolled, and evicted and expired only as incidents are.

        Returns:
            The index of its entry; None if its recipients are not provisioned or there is no room,
            which is then counted in a loss entry.

        Raises:
            SpoolError: the storage failed; end the process. So for all that follows here.
            ValueError: it holds something, and too many holds are open.
        """
        return self._mending(lambda: self._scribe.seal(draft))

    def record(self, what: Message, body: bytes = b"") -> int:
        """Append an entry to the ledger, durably.

        Args:
            what: one of the messages of an Entry.
            body: stored and uploaded with it; its hash is put into `what.body`.

        Returns:
            Its index; -1 if the disk is full: it follows as soon as there is room.
        """
        return self._mending(lambda: self._scribe.record(what, body))

    def admit(self, people: Enrolled) -> None:
        """Seal to these people from here on, in new sessions."""
        self._identity = replace(
            self._identity, owner_key=people.owner_key, driver_key=people.driver_key
        )
        self._scribe.readdress(self._identity)

    def decide_by(self, what: ledger_pb2.PolicyInForce, body: bytes) -> None:
        """Record which policy decides from here on; a start under the one named last writes none.

        So its bytes are stored once in a log, however often the car is started.
        """
        self._policy = (what, body)
        named = self._spool.one("SELECT v FROM meta WHERE k='policy'")
        if what.why != STARTED or named != (sha256(body) if body else b""):
            self.record(what, body)

    def housekeep(self) -> None:
        """End old sessions, write down, expire, sign a checkpoint: about once a second."""
        try:
            if self._is_damaged:
                raise SpoolCorruptError("the spool is damaged", where=str(self._path))
            self._scribe.housekeep()
        except SpoolCorruptError as error:
            self._exchange(error)

    def take(self, count: int, max_bytes: int, skip: Skip) -> tuple[list[hatch_pb2.Outgoing], int]:
        """Return the most urgent entries to upload, and how many wait in all.

        Args:
            count: at most so many.
            max_bytes: of entries and bodies, unless the first alone is larger.
            skip: indices that are under way, by log.

        Raises:
            SpoolError: the storage failed.
        """
        with self._hatch:
            try:
                return self._outbound.take(count, max_bytes, skip)
            except SpoolCorruptError:
                self._is_damaged = True  # the sealer's thread exchanges the file
                return [], self._spool.tally.waiting()

    def receipt(self, payload: bytes) -> tuple[int, bool]:
        """Take a SignedReceipt as it came; returns (entries confirmed, whether it was valid).

        Raises:
            SpoolError: the storage failed; nothing was confirmed.
        """
        with self._hatch:
            try:
                return self._outbound.receipt(payload)
            except SpoolFullError:
                return 0, True  # the region sends it again; the sealer's thread makes room
            except SpoolCorruptError:
                self._is_damaged = True
                return 0, True

    def checkpoint(self, *, now: bool = False) -> delivery_pb2.CheckpointUpload | None:
        """Return the newest signed head with its consistency proof; None if the region has it.

        Args:
            now: sign what is here; `wants_head` says so to uplink.

        Raises:
            SpoolError: the storage failed.
        """
        with self._hatch:
            try:
                return self._outbound.checkpoint(now=now)
            except SpoolCorruptError:
                self._is_damaged = True
                return None

    def wants_head(self) -> bool:
        """Return whether the region is wanted as a witness of the newest head at once. Hatch."""
        return self._outbound.wants_head()

    @property
    def offered(self) -> tuple[int, bytes]:
        """When the region last named a policy bundle (ns), its SHA-256 (empty: none). Hatch."""
        return self._outbound.offered

    def status(self) -> VaultStatus:
        """Return the figures for `inland status`."""
        with self._hatch:
            return read_status(
                self._log, self._scribe, self._path, quota_bytes=self._size.quota,
                confirmed=self._confirmed_before + self._outbound.confirmed,
            )  # fmt: skip

    def trusted(self) -> tuple[int, int]:
        """Return (ns since the Unix epoch, clock quality) as far as it can be trusted."""
        assert self._time is not None  # set before the vault is handed out
        return self._time.trusted()

    def moment(self) -> Moment:
        """Return now by every clock."""
        assert self._time is not None
        return self._time.moment()

    def highest_ns(self) -> int:
        """Return the highest time that was ever believed, over restarts, ns: by it things end."""
        assert self._time is not None
        return self._time.highest_ns()

    def reading(self) -> Reading:
        """Return what the computer's clocks show, believed or not."""
        assert self._time is not None
        return self._time.reading()

    def close(self, clean: bool = True) -> None:
        """End in order: what is counted is written, a checkpoint signed, every chain dropped.

        Args:
            clean: False after a storage error: nothing more is written.

        Raises:
            SpoolError: the storage failed; everything is closed all the same.
        """
        if self._is_closed:
            return
        self._is_closed = True
        with self._hatch:
            try:
                self._scribe.end_sessions()
                if clean:
                    self._write_last()
            finally:
                self._second.close()
                self._spool.close()
                self._ballast.keep()
                os.close(self._lock_file)

    def _write_last(self) -> None:
        for attempt in (1, 2):
            try:
                self._scribe.write_down(all_of_them=True)
                self._scribe.sign()
                with self._spool.write() as transaction:
                    set_meta(transaction, "clean", b"1")
                break
            except SpoolFullError:
                if attempt == 1:  # else there is nothing more to give up: the end is not noted
                    self._scribe.relieve()
        if lost := self._scribe.unwritten():
            _log.error("%d rows were lost, and the disk has no room to note it", lost)
