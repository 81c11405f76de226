"""Try a policy on recorded frames: what it would keep, find and cost. No car, disk or network.

The frames go the agent's own way (`capture/force.py`: engine, conditions, events, camera gate,
recorder, column codec, sealing); only the clock is the log's and the vault weighs instead of
storing. Consents are taken as given where the caller says so.

A segment may hold rows of several rules: its bytes are shared out by what their rows weigh before
compression.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Final

import numpy as np

from agent.capture.accounts import Use
from agent.capture.consent import ConsentStep
from agent.capture.drives import Drives
from agent.capture.force import Counters, Force, Surroundings
from agent.capture.limits import Limits
from agent.capture.recorded import Axis
from agent.capture.recorder import FRAME_COST, SAMPLE_COST
from agent.frames import EXTENDED, ChannelTable, FrameBatch
from agent.pb.moment_pb2 import Moment
from agent.pb.record_pb2 import EventRecord
from agent.policy.camera import Decision
from agent.policy.engine import recorder_set
from agent.policy.items import CAMERA_CATEGORY, EVENT_CATEGORY
from agent.policy.model import Policy, RuleSet, rule_set_of
from agent.policy.seen import absent, remarks
from agent.policy.zones import Zones
from agent.service.weighing import Output, WeighingVault, Weight

PIECE_NS: Final = 100_000_000  # of log time in one step, as the agent's own
HOUSE_NS: Final = 60 * 10**9
GAP_NS: Final = 10 * 10**9  # a longer pause between two frames is no driving
FRAME_WEIGHT: Final = FRAME_COST + 8
UNATTRIBUTED: Final = "agent.audit"  # ledger entries that belong to no rule


@dataclass(slots=True)
class Cost:
    """Bytes; see weighing.py for what counts."""

    flash: float = 0.0
    link: float = 0.0


@dataclass(frozen=True, slots=True)
class Found:
    """An event that was found.

    Attributes:
        rule: id of the [[event]].
        stamp_ns: of the frame that made it true, as recorded.
        at_s: driving since the first frame, s.
        triggers: edges that belong to it.
        before_s, after_s: recorded driving that it holds.
        complete: all of `after` was recorded.
    """

    rule: str
    stamp_ns: int
    at_s: float
    triggers: int
    before_s: float
    after_s: float
    complete: bool


@dataclass(slots=True)
class Report:
    """What a policy did on the frames.

    Attributes:
        frames: that were played.
        seconds: of driving: their stamps without gaps.
        uses: by rule or event id, "recorder", "camera".
        costs: by category.
        recorder_bytes: in the recorder's window at the end.
        events: that were recorded, in order.
        suppressed: events beyond their `at_most`.
        gate_s: seconds by "open" or by the reason of being closed; empty without a [camera].
        unseen: signals that the policy names and whose frames never came, as Message.Signal.
        notes: of J1939 groups that several sources sent, or none that the policy means.
    """

    frames: int = 0
    seconds: float = 0.0
    uses: dict[str, Use] = field(default_factory=dict)
    costs: dict[str, Cost] = field(default_factory=dict)
    recorder_bytes: int = 0
    events: list[Found] = field(default_factory=list)
    suppressed: int = 0
    gate_s: dict[str, float] = field(default_factory=dict)
    unseen: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def total(self) -> Cost:
        """Return the cost of all categories together."""
        costs = self.costs.values()
        return Cost(sum(one.flash for one in costs), sum(one.link for one in costs))


class _NoGate:
    """No camera is told."""

    def write(self, decision: Decision, boottime_ns: int) -> bool:
        del decision, boottime_ns
        return True

    def close(self, boottime_ns: int) -> bool:
        del boottime_ns
        return True


class _Pages:
    """A book that adds up by rule: what the ledger may not, for whoever tries a policy."""

    def __init__(self) -> None:
        self.uses: dict[str, Use] = {}

    def enter(self, policy: Policy, uses: Mapping[str, Use], now_ns: int) -> None:
        del policy, now_ns
        for rule, more in uses.items():
            use = self.uses.setdefault(rule, Use())
            use.frames += more.frames
            use.samples += more.samples
            use.records += more.records


class Simulation:
    """One policy on one stream of frames.

    Args:
        policy: as it came through the door; region and time do not matter here.
        channels: names of the buses by number.
        consented: categories that count as consented to.
        zones: of the camera clause; None: they cannot be opened, every place is protected.
    """

    def __init__(
        self, policy: Policy, channels: ChannelTable, *, consented: frozenset[str],
        zones: Zones | None = None,
    ) -> None:  # fmt: skip
        self._policy = policy
        self._vault, self._book = WeighingVault(), _Pages()
        self._axis, self._counters = Axis(), Counters()
        around = Surroundings(
            gate=_NoGate(), limits=Limits(None, bytes(16)), consents=Path(),
            zones=lambda _: zones, rng=self._numbered, boot_id=bytes(16), version="simulation",
        )  # fmt: skip
        drives = Drives(None, lambda _: None, bytes(16))
        self._force = Force(
            policy, vault=self._vault, channels=channels, axis=self._axis, drives=drives,
            book=self._book, around=around, counters=self._counters,
        )  # fmt: skip
        asked = frozenset(term.category for term in policy.consents)
        given = asked & consented
        self._force.consent(ConsentStep(asked - given, given, (), frozenset()))
        self._report = Report()
        self._ids = 0
        self._last_ns: int | None = None
        self._clock_ns = self._housed_ns = 0
        self._channels = channels
        self._seen: set[tuple[str, bool, int]] = set()

    def _numbered(self, size: int) -> bytes:
        self._ids += 1
        return self._ids.to_bytes(size, "big")

    def feed(self, batch: FrameBatch) -> None:
        """Play some frames, in the order in which they came."""
        kind = batch["channel"].astype(np.uint64) << 1 | ((batch["flags"] & EXTENDED) != 0)
        for key in np.unique(kind << 32 | batch["arbitration_id"]).tolist():
            bus = self._channels.names[key >> 33]
            self._seen.add((bus, bool(key >> 32 & 1), key & 0xFFFF_FFFF))
        for piece in _pieces(batch):
            self._step(piece)

    def finish(self) -> Report:
        """End the run; return what was found."""
        self._force.end(self._moment())
        report, vault = self._report, self._vault
        report.uses = self._book.uses
        report.events = [self._found(one) for one in vault.events.values()]
        report.suppressed = self._counters.events.suppressed
        report.recorder_bytes = vault.recorder_bytes
        report.costs = self._costs()
        seen = frozenset(self._seen)
        report.unseen, report.notes = absent(self._policy, seen), remarks(self._policy, seen)
        return report

    def _step(self, piece: FrameBatch) -> None:
        stamp_ns = int(piece["timestamp_ns"][-1])
        passed_ns = 0 if self._last_ns is None else max(0, stamp_ns - self._last_ns)
        self._last_ns = stamp_ns
        self._clock_ns += passed_ns
        report = self._report
        report.frames += len(piece)
        driven_s = passed_ns / 1e9 if passed_ns <= GAP_NS else 0.0
        report.seconds += driven_s
        now = self._moment()
        self._force.take(piece, now)
        self._force.turn(now)
        if self._policy.camera is not None:
            decision = self._force.decision
            word = "open" if decision.open else decision.reason
            report.gate_s[word] = report.gate_s.get(word, 0.0) + driven_s
        if self._clock_ns - self._housed_ns >= HOUSE_NS:
            self._housed_ns = self._clock_ns
            self._force.roll()

    def _moment(self) -> Moment:
        return Moment(unix_ns=max(0, self._last_ns or 0), boottime_ns=self._clock_ns)

    def _found(self, event: EventRecord) -> Found:
        return Found(
            rule=event.rule, stamp_ns=event.stamp_ns, at_s=event.at.boottime_ns / 1e9,
            triggers=event.triggers, before_s=event.before_ns / 1e9,
            after_s=event.after_ns / 1e9, complete=event.complete,
        )  # fmt: skip

    def _costs(self) -> dict[str, Cost]:
        """Share the bytes out to categories."""
        vault, costs = self._vault, dict[str, Cost]()
        for output, weight in vault.outputs.items():
            for category, share in self._shares(output).items():
                _add(costs, category, weight, share)
        _add(costs, EVENT_CATEGORY, vault.records["event"])
        _add(costs, CAMERA_CATEGORY, vault.records["camera"])
        _add(costs, UNATTRIBUTED, vault.entries)
        return {name: cost for name, cost in sorted(costs.items()) if cost.flash or cost.link}

    def _shares(self, output: Output) -> dict[str, float]:
        """Return what part of an output's bytes each category has."""
        recorder = self._policy.recorder
        if recorder is not None and _output(recorder_set(recorder)) == output:
            return {EVENT_CATEGORY: 1.0}
        weights: dict[str, float] = {}
        for rule in self._policy.rules:
            if _output(rule_set_of(rule)) == output and (use := self._book.uses.get(rule.id)):
                weight = use.frames * FRAME_WEIGHT + use.samples * SAMPLE_COST
                weights[rule.category] = weights.get(rule.category, 0.0) + weight
        whole = sum(weights.values())
        return {name: one / whole for name, one in weights.items()} if whole else {}


def _output(rule_set: RuleSet) -> Output:
    return (
        rule_set.recipients, rule_set.lane, rule_set.resolution_ns, rule_set.keep_order,
        rule_set.keep_s, rule_set.consent,
    )  # fmt: skip


def _add(costs: dict[str, Cost], category: str, weight: Weight, share: float = 1.0) -> None:
    cost = costs.setdefault(category, Cost())
    cost.flash += weight.flash * share
    cost.link += weight.link * share


def _pieces(batch: FrameBatch) -> Iterator[FrameBatch]:
    """Cut a batch where a tenth of a second of its stamps is over, either way."""
    cells = batch["timestamp_ns"] // PIECE_NS
    cuts = np.flatnonzero(cells[1:] != cells[:-1]) + 1
    for begin, end in pairwise([0, *cuts.tolist(), len(batch)]):
        if end > begin:
            yield batch[begin:end]
