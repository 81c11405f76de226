"""A policy in force: what is kept, watched, recorded and counted under it, from first to last.

The order within a step is what makes the promises: clauses see a batch before any of it is kept,
so that a place closes in time; the recorder takes the frames before their events hold them; and
when it ends, everything open is sealed and every event closed before another policy decides.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

from agent.capture.accounts import CAMERA, Book, Uses
from agent.capture.clauses import Clauses
from agent.capture.consent import ConsentStep
from agent.capture.drives import Drives
from agent.capture.incidents import Incidents, Tally
from agent.capture.keeper import GateWriter, Keeper
from agent.capture.limits import Limits
from agent.capture.live import LiveFeed
from agent.capture.recorded import Axis
from agent.capture.recorder import Recorder
from agent.capture.records import Seals
from agent.digest import sha256
from agent.frames import ChannelTable, FrameBatch
from agent.pb.moment_pb2 import Moment
from agent.pb.sealed_pb2 import RECORDER
from agent.policy.camera import CLOSED, Decision
from agent.policy.engine import Engine, Kept
from agent.policy.model import Policy
from agent.policy.zones import Zones
from agent.vault.enrolled import OwnerStep
from agent.vault.segment import Draft

# A frame may have waited for a tick in its reader, and the next look is a step away: a segment is
# closed so much early that none of its frames is unsealed for longer than its `flush`.
AHEAD_NS: Final = 275_000_000
NOTHING: Final = -1  # stays of the recorder's window


@dataclass(slots=True)
class Counters:
    """What the sealer has done since the start, for the status."""

    frames: int = 0  # that reached the policy
    kept: int = 0  # frames that a rule wanted; the recorder is none
    samples: int = 0  # signal samples that a rule wanted
    segments: int = 0
    lost: int = 0  # frames and samples that were wanted and are not kept
    events: Tally = field(default_factory=Tally)


class Owners(Protocol):
    """Says who is enrolled; looked at by one thread."""

    def look(self) -> OwnerStep | None:
        """Return what changed since the last look; None if nothing did."""
        ...

    def entered(self) -> None:
        """Note that the entries of the last step are in the ledger."""
        ...


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the policies of a run meet outside the vault.

    Attributes:
        gate: the file that cameras watch.
        limits: counts events by rule.
        consents: the file of consents.
        zones: opens sealed zones; None if they cannot be opened.
        rng: returns so many random bytes.
        boot_id: of this boot, 16 bytes.
        version: of the agent.
        owners: who is enrolled; None: nobody ever is.
        live: hands on what is kept to people who watch; None: nobody ever does.
    """

    gate: GateWriter
    limits: Limits
    consents: Path
    zones: Callable[[bytes], Zones | None]
    rng: Callable[[int], bytes]
    boot_id: bytes
    version: str
    owners: Owners | None = None
    live: LiveFeed | None = None


class Force:
    """See the module.

    Args:
        policy: as it came through the door.
        vault: where segments and entries go.
        channels: names of the buses by number.
        axis: of recorded time; it goes on over policies.
        drives: counted over policies too.
        book: where the counts of the policy's rules go.
        around: files and ids.
        counters: counted on.
    """

    def __init__(
        self, policy: Policy, *, vault: Keeper, channels: ChannelTable, axis: Axis, drives: Drives,
        book: Book, around: Surroundings, counters: Counters,
    ) -> None:  # fmt: skip
        self.policy = policy
        self._vault, self._channels, self._axis = vault, channels, axis
        self._counters, self._book, self._live = counters, book, around.live
        self._silent: frozenset[str] = frozenset(one.category for one in policy.consents)
        self._consented: frozenset[str] = frozenset()
        self._asked = not policy.consents  # somebody has looked at the consents
        self._sealed_ns = axis.end_ns
        self._engine = Engine(policy, channels, self._silent)
        self._recorder = Recorder(
            policy_hash=policy.digest, dictionary_hash=sha256(policy.dictionary), axis=axis
        )
        self._uses = Uses()
        seals = Seals(policy, self._seal)
        self._clauses: Clauses | None = None
        if policy.driving is not None or policy.events or policy.camera is not None:
            sealed = policy.camera.zones if policy.camera is not None else b""
            self._clauses = Clauses(
                policy, zones=around.zones(sealed) if sealed else None, drives=drives,
                gate=around.gate, seals=seals, steady=axis.steady,
            )  # fmt: skip
        self._incidents = Incidents(
            vault, seals, around.limits, rng=around.rng, version=around.version,
            tally=counters.events,
        )  # fmt: skip

    @property
    def consented(self) -> frozenset[str]:
        """Categories with a consent in force."""
        return self._consented

    @property
    def decision(self) -> Decision:
        """What the camera gate says."""
        return CLOSED if self._clauses is None else self._clauses.decision

    def consent(self, step: ConsentStep) -> bool:
        """Obey a change of consents; return whether `filters` are others than before.

        Its entries are the caller's, once the buses deliver what they say.

        Raises:
            SpoolError: the storage failed.
        """
        for category in sorted(step.ended):
            self._recorder.discard(category)
            if self._live is not None:
                self._live.discard(category)
            self._vault.withdraw(category)
        self._consented = step.consented
        first, self._asked = not self._asked, True
        if step.silent == self._silent:
            return first
        self._uses.add(self._engine.counts())
        self._silent = step.silent
        self._engine = Engine(self.policy, self._channels, step.silent)
        return True

    def filters(self, channel: str) -> list[dict[str, Any]] | None:
        """Return python-can filters of a channel; None: everything passes.

        Until somebody has looked at the consents, what any of them would allow: it is decided here.
        """
        engine = self._engine if self._asked else Engine(self.policy, self._channels)
        return engine.kernel_filters(channel)

    def take(self, batch: FrameBatch, now: Moment) -> None:
        """Decide about a batch; an empty one lets time pass.

        Raises:
            SpoolError: the storage failed.
        """
        decided = self._engine.decide(batch)
        kept = decided.kept
        if self._clauses is None:
            self._keep(kept, now)
            return
        seen = self._clauses.see(decided.watched, now, consented=self._consented)
        if seen.place_closed:
            kept = self._engine.without_place(kept)
        self._keep(kept, now)
        self._note(CAMERA, seen.camera)
        self._happen(self._clauses, now)

    def turn(self, now: Moment) -> None:
        """Seal what is due and close the events that are over: once a step.

        Raises:
            SpoolError: the storage failed.
        """
        for draft in self._recorder.due(self._channels.names, now, ahead_ns=AHEAD_NS):
            self._seal(draft)
        self._incidents.follow(self._sealed_ns, self._axis.end_ns, now)

    def roll(self) -> None:
        """Let the recorder's window move on; without a recorder nothing of it is kept.

        Raises:
            SpoolError: the storage failed.
        """
        recorder = self.policy.recorder
        self._vault.roll(recorder.window_ns if recorder is not None else NOTHING)

    def account(self, now: Moment) -> None:
        """Enter in the book what was kept since the last time.

        Raises:
            SpoolError: the storage failed.
        """
        self._uses.add(self._engine.counts())
        self._book.enter(self.policy, self._uses.take(), now.unix_ns)

    def hand_over(self, now: Moment) -> None:
        """Seal what is open: no segment is for those before and those after a change of people.

        Raises:
            SpoolError: the storage failed.
        """
        for draft in self._recorder.flush(self._channels.names, now):
            self._seal(draft)

    def end(self, now: Moment) -> None:
        """Seal and close everything: before another policy decides, and at the end of a run.

        Raises:
            SpoolError: the storage failed.
        """
        self.hand_over(now)
        if self._clauses is not None:
            self._happen(self._clauses, now, at_once=True)
        self._incidents.follow(self._sealed_ns, self._axis.end_ns, now)
        self._incidents.interrupt(now)
        if self._clauses is not None:
            self._note(CAMERA, self._clauses.end(now))
        self.account(now)

    def _happen(self, clauses: Clauses, now: Moment, *, at_once: bool = False) -> None:
        """Note what has happened; the recorder has the frames already."""
        news = clauses.events(now, open_incidents=self._incidents.open, at_once=at_once)
        for rule in self._incidents.take(news, self._axis, now):
            self._note(rule, 1)

    def _keep(self, kept: list[Kept], now: Moment) -> None:
        self._counters.kept += sum(
            len(part.frames) for part in kept if part.rule_set.lane != RECORDER
        )
        self._counters.samples += sum(len(part.signals) for part in kept)
        if self._live is not None and self._live.wanted:
            self._live.keep(kept, self._channels.names, now)
        for draft in self._recorder.add(kept, self._channels.names, now):
            self._seal(draft)

    def _seal(self, draft: Draft) -> int | None:
        index = self._vault.seal(draft)
        if draft.recorded is not None:
            self._sealed_ns = draft.recorded[1]  # also if it could not be stored: it will not be
        if index is None:
            self._counters.lost += draft.rows
        else:
            self._counters.segments += 1
            if draft.records and self._live is not None:
                self._live.note(draft)
        return index

    def _note(self, rule: str, records: int) -> None:
        if records:
            self._uses.note(rule, records)
