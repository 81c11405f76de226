"""The sealer's half of the vault: sessions, segments, what must be written down about losses.

Used by the sealer's thread alone. A draft is sealed in memory; only the sealed bytes meet the disk.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from google.protobuf.message import Message

from agent.clock import REGION
from agent.digest import sha256
from agent.errors import SpoolCorruptError, SpoolFullError, SpoolQuotaError
from agent.pb import ledger_pb2, sealed_pb2
from agent.vault import seal
from agent.vault.forgetting import Forgetting
from agent.vault.identity import Identity
from agent.vault.incidents import Also, Incidents, Stand
from agent.vault.log import Log, New
from agent.vault.memory import Memory
from agent.vault.outbound import Found
from agent.vault.room import Ballast, Dropped
from agent.vault.segment import Draft, encode_payload
from agent.vault.session import SECRET_BYTES, Session
from agent.vault.shelves import BY_LANE, Shelf
from agent.vault.spool import NOWHERE

SESSION_NS: Final = 3600 * 10**9
CHECKPOINT_NS: Final = 60 * 10**9
REPEAT_NS: Final = 60 * 10**9  # a loss or refusal that goes on is one entry a minute
EXPIRY_NS: Final = 60 * 10**9
FLOOR_NS: Final = 600 * 10**9  # a car that stands, and hears the region, writes nothing else
SWEEP_NS: Final = 600 * 10**9
MAX_KINDS: Final = 256  # (channel, cause) pairs that are told apart
MAX_DEFERRED: Final = 256
DEFERRED: Final = -1

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Live:
    """A session in use."""

    session: Session
    index: int  # of its entry
    began_ns: int  # CLOCK_BOOTTIME


class Sealer:
    """Seals drafts into one log and keeps that log's house.

    Args:
        log: where entries go.
        identity: names and keys.
        rng: random bytes.
        boot_id: of this run of the computer.
        aead: 1 or 2.
        found: what the hatch's thread found.
        ballast: room kept back.
    """

    def __init__(
        self, log: Log, identity: Identity, *, rng: Callable[[int], bytes], boot_id: bytes,
        aead: int, found: Found, ballast: Ballast,
    ) -> None:  # fmt: skip
        self.log, self._identity, self._rng = log, identity, rng
        self._boot_id, self._aead = boot_id, aead
        self._found, self._ballast = found, ballast
        self._sessions: dict[int, Live] = {}
        self._losses: dict[tuple[str, int], int] = {}
        self._deferred: deque[New] = deque()
        self._last: dict[object, int] = {}  # when something was done, CLOCK_BOOTTIME
        self.session_started_ns = 0
        self.incidents = Incidents(log, self.append, self._keep)
        self.forgetting = Forgetting(log, self.append, found)
        self.memory = Memory(log.spool)

    def append(
        self, news: list[New], *, dropped: Dropped | None = None, also: Also | None = None
    ) -> int | None:
        """Append as `Log.append` does, with the best made of a full disk; None if there is no room.

        Raises:
            SpoolError: the storage failed.
        """
        for attempt in (1, 2):
            try:
                return self.log.append(news, dropped=dropped, also=also)
            except SpoolQuotaError:
                break
            except SpoolFullError:
                if attempt == 1:
                    self.relieve()
        return None

    def seal(self, draft: Draft) -> int | None:
        """Seal and store a draft, durably; None if it could not be kept, which is then counted.

        Raises:
            SpoolCorruptError: the file is damaged; the draft is not stored.
            SpoolError: the storage failed.
            ValueError: it holds something, and too many holds are open.
        """
        if draft.holds is not None:
            self.incidents.check_room()
        wraps = seal.wraps_for(
            draft.recipients,
            region_key=self._identity.region_key,
            owner_key=self._identity.owner_key,
            driver_key=self._identity.driver_key,
        )
        if wraps is None:
            self._lose(draft, ledger_pb2.Loss.NO_RECIPIENT)
            self._write_losses()
            return None
        payload = encode_payload(draft, salt=self._rng(32), boot_id=self._boot_id)
        for attempt in (1, 2):
            try:
                return self._seal(draft, payload, wraps)
            except SpoolQuotaError:
                break
            except SpoolFullError:
                if attempt == 1:
                    self.relieve()
        self._lose(draft, ledger_pb2.Loss.SEAL)
        return None

    def _seal(self, draft: Draft, payload: bytes, wraps: tuple[tuple[bytes, ...], ...]) -> int:
        live = self._session(draft.recipients, wraps)
        if draft.holds is not None:
            self.incidents.make_way()
        header = sealed_pb2.SegmentHeader(
            log=self.log.log, index=self.log.size, epoch=self._identity.epoch,
            lane=sealed_pb2.Lane.Name(draft.lane), policy=draft.policy[:8],
        )  # fmt: skip
        # A second attempt comes through here again and gets the next step, never the same key.
        body = seal.seal_segment(live.session, header, payload)
        what = ledger_pb2.SegmentSealed(
            body=sha256(body), plain=sha256(payload),
            session=live.session.session, lane=header.lane, bytes=len(body),
        )  # fmt: skip
        stand, recorded = Stand(BY_LANE[header.lane], draft.keep_s, None), NOWHERE
        if stand.shelf == Shelf.RECORDER:
            recorded = draft.recorded or (self.log.recorded_ns, self.log.recorded_ns)
            stand = self.incidents.stand(recorded, draft.keep_s)
        new = New(
            what, body, stand.shelf, live.index, self._keep(stand.keep_s), recorded, draft.consent
        )
        if draft.holds is None:
            return self.log.append([new], also=stand.also)
        hold, also = self.incidents.begin(draft.holds, header.index)
        index = self.log.append([new], also=also)
        self.incidents.begun(hold)
        return index

    def _keep(self, keep_s: int) -> int:
        """Return when a body expires: by the region's time, or counted from when it is known.

        A wall clock that is wrong today must not delete tomorrow.
        """
        unix_ns, quality = self.log.time.trusted()
        return unix_ns // 10**9 + keep_s if keep_s and quality == REGION else -keep_s

    def _session(self, recipients: int, wraps: tuple[tuple[bytes, ...], ...]) -> Live:
        now_ns = self.log.time.boottime_ns()
        live = self._sessions.get(recipients)
        if live is not None and 0 <= now_ns - live.began_ns < SESSION_NS:
            return live
        # The old chain is out of reach before the new session seals anything.
        self._sessions.pop(recipients, None)
        secret, name = self._rng(SECRET_BYTES), self._rng(16)
        index = self.log.size
        header = sealed_pb2.SessionHeader(
            aead=self._aead, region=self._identity.region, vehicle=self._identity.vehicle,
            log=self.log.log, index=index, session=name, epoch=self._identity.epoch,
            recipients=sealed_pb2.Recipients.Name(recipients),
        )  # fmt: skip
        body = seal.seal_session(header, secret, wraps)
        what = ledger_pb2.SessionBegun(
            body=sha256(body), session=name, recipients=header.recipients
        )
        self.log.append([New(what, body, Shelf.SESSION, session=index)])
        # If this body were lost, so would be every segment of the session: nobody can wrap the
        # secret again. So it is looked at once more before its chain seals anything.
        if self.log.spool.one("SELECT blob FROM body WHERE i=?", (index,)) != body:
            raise SpoolCorruptError("a session reads back wrong", where=str(self.log.spool.path))
        live = self._sessions[recipients] = Live(
            Session(secret, session=name, aead=self._aead), index, now_ns
        )
        self.session_started_ns = now_ns
        return live

    def record(self, what: Message, body: bytes) -> int:
        """Append an entry, durably; DEFERRED if there is no room, then it follows when there is.

        Raises:
            SpoolError: the storage failed.
        """
        if body:
            named = type(what)()
            named.CopyFrom(what)
            named.body = sha256(body)  # type: ignore[attr-defined]  # a policy
            what = named
        new = New(what, body)
        if (index := self.append([new])) is not None:
            return index
        if isinstance(what, ledger_pb2.Loss):
            self._count(what.channel, what.cause, what.count)
        elif len(self._deferred) < MAX_DEFERRED:
            self._deferred.append(new)
        return DEFERRED

    def relieve(self) -> None:
        """Make the best of a full disk: give up the ballast, reuse the WAL, stop growing.

        Raises:
            SpoolError: the storage failed for another reason.
        """
        spool = self.log.spool
        if self._is_due("full", REPEAT_NS):
            _log.warning("no room for the spool on the disk: it stops growing and evicts")
        self._ballast.release()
        try:
            spool.checkpoint_wal()
        except SpoolFullError:
            # The next transaction will say so too; what it loses is counted there.
            _log.debug("the disk has no room to copy the WAL back")
        pages = max(1, spool.pages())
        spool.limit(max(pages, min(pages + self._ballast.pages_left(), spool.size.max_pages)))

    def _restore(self) -> None:
        """Grow again once the disk has room, up to the quota."""
        if not self._ballast.is_held and self._ballast.hold():
            spool = self.log.spool
            spool.limit(max(spool.pages(), spool.size.max_pages))

    def _lose(self, draft: Draft, cause: ledger_pb2.Loss.Cause) -> None:
        channel = draft.channels[0] if len(draft.channels) == 1 else ""
        self._count(channel, cause, draft.rows)

    def _count(self, channel: str, cause: ledger_pb2.Loss.Cause, count: int) -> None:
        if (channel, cause) not in self._losses and len(self._losses) >= MAX_KINDS:
            channel = ""
        self._losses[channel, cause] = self._losses.get((channel, cause), 0) + count

    def _is_due(self, what: object, every_ns: int) -> bool:
        now_ns = self.log.time.boottime_ns()
        if now_ns - self._last.get(what, -every_ns) < every_ns:
            return False
        self._last[what] = now_ns
        return True

    def _write_losses(self, *, all_of_them: bool = False) -> None:
        for key, count in list(self._losses.items()):
            if all_of_them or self._is_due(("loss", key), REPEAT_NS):
                del self._losses[key]
                channel, cause = key
                what = ledger_pb2.Loss(
                    channel=channel, count=count, cause=ledger_pb2.Loss.Cause.Name(cause)
                )
                if self.record(what, b"") == DEFERRED:
                    return  # counted again by record

    def write_down(self, *, all_of_them: bool = False) -> None:
        """Write what was found, lost or put off since the last time."""
        while self._deferred:
            try:
                self.log.append([self._deferred[0]])
            except SpoolFullError:
                return
            self._deferred.popleft()
        self.incidents.write_down()
        self.memory.write_down()
        if (step := self.log.time.step()) is not None:
            self.record(ledger_pb2.ClockStep(from_unix_ns=step[0], to_unix_ns=step[1]), b"")
        if all_of_them or self._is_due("refusals", REPEAT_NS // 6):
            for code, count in sorted(self._found.refused().items()):
                self.record(ledger_pb2.Refusal(what="receipt", code=code, count=count), b"")
        if self._found.rotten:
            rotten = list(self._found.rotten)
            _log.warning("%d bodies do not match their hash; dropped", len(rotten))
            self.log.append([], dropped={ledger_pb2.Drop.ROTTEN: rotten})
            self._found.rotten.difference_update(rotten)
        self._write_losses(all_of_them=all_of_them)

    def unwritten(self) -> int:
        """Return how many rows were lost that the ledger does not know of."""
        return sum(self._losses.values())

    def housekeep(self) -> None:
        """Do what is due; see `Vault.housekeep`."""
        now_ns = self.log.time.boottime_ns()
        for recipients, live in list(self._sessions.items()):
            if not 0 <= now_ns - live.began_ns < SESSION_NS:
                del self._sessions[recipients]  # the last reference to its chain
        self._restore()
        try:
            self.write_down()
            if self._is_due("floor", FLOOR_NS):
                self.log.note_floor()
            self.forgetting.pursue()
            if self._is_due("expiry", EXPIRY_NS):
                self.forgetting.expire()
            if self._is_due("sweep", SWEEP_NS):
                self.forgetting.sweep({session.index for session in self._sessions.values()})
        except SpoolFullError:
            self.relieve()
        asked = self._found.head_asked
        self.sign(0 if asked else CHECKPOINT_NS)
        if asked:
            self._found.head_asked = False  # not before: who waits for it looks at once

    def sign(self, every_ns: int = 0) -> None:
        """Sign a checkpoint if the log grew since the last, at most once in `every_ns`."""
        if self._last.get("signed size") == self.log.size or not self._is_due("sign", every_ns):
            return
        try:
            self.log.sign(self._identity)
        except SpoolFullError:
            return  # the next one says more
        self._last["signed size"] = self.log.size

    def adopt(self, before: Sealer) -> None:
        """Go on with what the sealer of a log that was put aside had not ended."""
        self.log.recorded_ns = max(self.log.recorded_ns, before.log.recorded_ns)
        self.memory.adopt(before.memory)
        self.incidents.adopt(before.incidents)

    def readdress(self, identity: Identity) -> None:
        """Seal to other keys from here on: no session outlives the people that it was for."""
        self.end_sessions()
        self._identity = identity

    def end_sessions(self) -> None:
        """Drop every chain."""
        self._sessions.clear()
