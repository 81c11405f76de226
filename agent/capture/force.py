"""A policy in force: what is kept, watched, recorded and counted under it, from first to last.

The order within a step is what makes the promises: the camera gate sees a batch before any of it is
kept, so that a place closes in time; the recorder takes the frames before their events hold them;
and when it ends, everything open is sealed and every event closed before another policy decides.

The gate looks at every batch at once. What is kept of it, and whether an event happened, is decided
for the batches of three ticks together (`pending.py`): most of what a decision costs does not
depend on how many frames it is about.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

from agent.capture.accounts import CAMERA, Accounts
from agent.capture.clauses import Clauses
from agent.capture.consent import ConsentStep
from agent.capture.drives import Drives
from agent.capture.incidents import Incidents, Tally
from agent.capture.keeper import GateWriter, Keeper
from agent.capture.pending import Pending
from agent.capture.recorded import Axis
from agent.capture.recorder import Recorder
from agent.capture.records import Seals
from agent.digest import sha256
from agent.frames import SIGNAL, ChannelTable, FrameBatch, SignalBatch, concatenate
from agent.pb.moment_pb2 import Moment
from agent.pb.sealed_pb2 import RECORDER
from agent.policy.camera import CLOSED, Decision
from agent.policy.engine import Engine
from agent.policy.lookout import Lookout
from agent.policy.model import Policy, event_points, gate_points
from agent.policy.zones import Zones
from agent.vault.segment import Draft

# A frame may have waited for a tick in its reader, and the next look is a tick away: a segment is
# closed so much early that none of its frames is unsealed for longer than its `flush`.
AHEAD_NS: Final = 250_000_000
NOTHING: Final = -1  # stays of the recorder's window
DECIDE_NS: Final = 350_000_000  # at the third tick; so an event is noticed within 0.4 s
DECIDE_ROWS: Final = 8192  # a recorded log comes faster than that


@dataclass(slots=True)
class Counters:
    """What the sealer has done since the start, for the status."""

    frames: int = 0  # that reached the policy
    kept: int = 0  # frames that a rule wanted; the recorder is none
    samples: int = 0  # signal samples that a rule wanted
    segments: int = 0
    lost: int = 0  # frames and samples that were wanted and are not kept
    events: Tally = field(default_factory=Tally)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the policies of a run meet outside the vault.

    Attributes:
        gate: the file that cameras watch.
        consents: the file of consents.
        zones: opens sealed zones; None if they cannot be opened.
        rng: returns so many random bytes.
        boot_id: of this boot, 16 bytes.
        version: of the agent.
    """

    gate: GateWriter
    consents: Path
    zones: Callable[[bytes], Zones | None]
    rng: Callable[[int], bytes]
    boot_id: bytes
    version: str


class Force:
    """See the module.

    Args:
        policy: as it came through the door.
        vault: where segments and entries go.
        channels: names of the buses by number.
        axis: of recorded time; it goes on over policies.
        drives: counted over policies too.
        around: files and ids.
        counters: counted on.
    """

    def __init__(
        self, policy: Policy, *, vault: Keeper, channels: ChannelTable, axis: Axis, drives: Drives,
        around: Surroundings, counters: Counters,
    ) -> None:  # fmt: skip
        self.policy = policy
        self._vault, self._channels, self._axis = vault, channels, axis
        self._counters = counters
        self._silent: frozenset[str] = frozenset(one.category for one in policy.consents)
        self._consented: frozenset[str] = frozenset()
        self._sealed_ns = axis.end_ns
        self._pending = Pending()
        self._decided_ns: int | None = None
        self._recorder = Recorder(
            policy_hash=policy.digest, dictionary_hash=sha256(policy.dictionary), axis=axis
        )
        self._accounts = Accounts(policy.name, policy.version)
        seals = Seals(policy, self._seal)
        self._clauses: Clauses | None = None
        if policy.driving is not None or policy.events or policy.camera is not None:
            sealed = policy.camera.zones if policy.camera is not None else b""
            self._clauses = Clauses(
                policy, zones=around.zones(sealed) if sealed else None, drives=drives,
                gate=around.gate, seals=seals,
            )  # fmt: skip
        self._incidents = Incidents(
            vault, seals, rng=around.rng, version=around.version, tally=counters.events
        )
        self._lookout: Lookout | None = None
        if policy.camera is not None:
            self._lookout = Lookout(policy, channels, gate_points(policy))
        self._engine = self._new_engine()
        flushes = [one.flush_ns for one in self._engine.rule_sets]
        self._wait_ns = max(0, min([DECIDE_NS, *(one - AHEAD_NS for one in flushes)]))

    def _new_engine(self) -> Engine:
        points = None if self._lookout is None else event_points(self.policy)
        return Engine(self.policy, self._channels, self._silent, points)

    @property
    def consented(self) -> frozenset[str]:
        """Categories with a consent in force."""
        return self._consented

    @property
    def decision(self) -> Decision:
        """What the camera gate says."""
        return CLOSED if self._clauses is None else self._clauses.decision

    def consent(self, step: ConsentStep) -> bool:
        """Obey a change of consents; return whether other frames are wanted than before.

        Raises:
            SpoolError: the storage failed.
        """
        self._decide()  # what came before is not touched by what is agreed to now
        for category in sorted(step.ended):
            self._recorder.discard(category)
            self._vault.withdraw(category)
        for entry in step.entries:
            self._vault.record(entry)
        self._consented = step.consented
        if step.silent == self._silent:
            return False
        self._accounts.add(self._engine.counts())
        self._silent = step.silent
        self._engine = self._new_engine()
        return True

    def filters(self, channel: str) -> list[dict[str, Any]] | None:
        """Return python-can filters of a channel; None: everything passes."""
        return self._engine.kernel_filters(channel)

    def take(self, batch: FrameBatch, now: Moment) -> None:
        """Show a batch to the gate, and decide about it within `DECIDE_NS`.

        An empty one lets time pass.

        Raises:
            SpoolError: the storage failed.
        """
        hidden = False
        if self._lookout is not None and self._clauses is not None:
            hidden = self._see(self._clauses, self._lookout.see(batch), now)
        self._pending.add(batch, now, hidden=hidden)
        since_ns = self._decided_ns
        if (
            since_ns is None
            or not 0 <= now.boottime_ns - since_ns < self._wait_ns
            or self._pending.rows >= DECIDE_ROWS
        ):
            self._decide()

    def turn(self, now: Moment) -> None:
        """Seal what is due and close the events that are over: once a step.

        Raises:
            SpoolError: the storage failed.
        """
        if self._recorder.is_due(now, ahead_ns=AHEAD_NS):
            self._decide()  # what came meanwhile goes with it: each segment has its price
            for draft in self._recorder.due(self._channels.names, now, ahead_ns=AHEAD_NS):
                self._seal(draft)
        self._incidents.follow(self._sealed_ns, now)

    def roll(self) -> None:
        """Let the recorder's window move on; without a recorder nothing of it is kept.

        Raises:
            SpoolError: the storage failed.
        """
        recorder = self.policy.recorder
        self._vault.roll(recorder.window_ns if recorder is not None else NOTHING)

    def account(self) -> None:
        """Enter in the ledger what each rule kept since the last time.

        Raises:
            SpoolError: the storage failed.
        """
        self._accounts.add(self._engine.counts())
        if (entry := self._accounts.take()) is not None:
            self._vault.record(entry)

    def end(self, now: Moment) -> None:
        """Seal and close everything: before another policy decides, and at the end of a run.

        Raises:
            SpoolError: the storage failed.
        """
        self._decide()
        for draft in self._recorder.flush(self._channels.names, now):
            self._seal(draft)
        self._incidents.follow(self._sealed_ns, now)
        self._incidents.interrupt(now)
        if self._clauses is not None:
            self._note(CAMERA, self._clauses.end(now))
        self.account()

    def _see(self, clauses: Clauses, watched: SignalBatch, now: Moment) -> bool:
        """Show samples to the gate; return whether the place is not to be kept."""
        seen = clauses.see(watched, now, consented=self._consented)
        self._note(CAMERA, seen.camera)
        return seen.place_closed

    def _decide(self) -> None:
        """Decide about all that is pending."""
        if (now := self._pending.last) is None:
            return
        self._decided_ns = now.boottime_ns
        watched = [
            self._keep(batch, since, now, hidden) for batch, since, hidden in self._pending.take()
        ]
        if self._clauses is not None:
            self._follow(self._clauses, concatenate(watched or [np.zeros(0, SIGNAL)]), now)

    def _follow(self, clauses: Clauses, watched: SignalBatch, now: Moment) -> None:
        """Look for events; the recorder has the frames already."""
        if self._lookout is None:
            self._see(clauses, watched, now)
        news = clauses.events(watched, open_incidents=self._incidents.open)
        for rule in self._incidents.take(news, self._axis, now):
            self._note(rule, 1)

    def _keep(self, batch: FrameBatch, since: Moment, now: Moment, hidden: bool) -> SignalBatch:
        """Keep what is wanted of a batch; return the samples of its watch points."""
        decided = self._engine.decide(batch)
        kept = self._engine.without_place(decided.kept) if hidden else decided.kept
        self._counters.kept += sum(
            len(part.frames) for part in kept if part.rule_set.lane != RECORDER
        )
        self._counters.samples += sum(len(part.signals) for part in kept)
        for draft in self._recorder.add(kept, self._channels.names, now, since=since):
            self._seal(draft)
        return decided.watched

    def _seal(self, draft: Draft) -> int | None:
        index = self._vault.seal(draft)
        if draft.recorded is not None:
            self._sealed_ns = draft.recorded[1]  # also if it could not be stored: it will not be
        if index is None:
            self._counters.lost += draft.rows
        else:
            self._counters.segments += 1
        return index

    def _note(self, rule: str, records: int) -> None:
        if records:
            self._accounts.note(rule, records)
