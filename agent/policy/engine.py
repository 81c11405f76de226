"""What of a batch of frames is kept: the only place where that is decided.

- Default deny: a frame or sample that no rule names is in no output. A rule under a consent that
  is not given does not exist.
- Rules that agree on recipients, lane, stamps, order, flush, retention and consent form a *rule
  set* and share one output; what two of them want is kept once. The recorder is a rule set of its
  own, on lane RECORDER.
- `every`: time is cut into cells of the period, floor(timestamp / period); the first sample of each
  cell is kept, per rule, signal and channel. A clock that steps back begins a new cell.
- `on = "change"`: a sample is kept if its raw value differs from the last one, per rule, signal and
  channel. Neither: every sample. Raw values are rounded as the rule says before all that.
- The samples of *watch points* are handed out whether or not a rule keeps them, as they come, under
  the watch point's number: what conditions and the camera gate look at.
- Error frames are kept by `<bus>:*` alone. Remote and error frames hold no signals.
- How the stream is cut into batches makes no difference. Samples come in the order of the frames,
  and within a frame by number.

A call costs about 0.3 ms however few frames it is given, and with thousands 0.4 us a frame:
whoever calls it collects frames for 50 ms or more.

The engine has no clock: whoever calls it stops when its policy ends. Pure but for what it
remembers of the last samples. One thread.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from agent.frames import SIGNAL, ChannelTable, FrameBatch, SignalBatch
from agent.pb import sealed_pb2
from agent.policy.clauses import FrameSelector, Recorder
from agent.policy.counting import FrameCounts
from agent.policy.j1939 import spans as ids_of
from agent.policy.masks import FrameMask, kernel_filters
from agent.policy.model import Policy, Rule, RuleSet, SignalLayout, rule_set_of, watch_points
from agent.policy.signals import Bools
from agent.policy.wants import ALWAYS, CHANGE, EVERY, NOBODY, Sampler, Want

__all__ = ["RECORDER_RULE", "Decided", "Engine", "Kept", "RuleSet", "recorder_set"]

RECORDER_RULE: Final = "recorder"  # its id among the counts
LOCATION: Final = "location."  # categories that tell where the car is


@dataclass(frozen=True, slots=True)
class Kept:
    """What a rule set keeps of a batch, in arrival order; at least one of both is not empty."""

    rule_set: RuleSet
    frames: FrameBatch
    signals: SignalBatch


@dataclass(frozen=True, slots=True)
class Decided:
    """What came of a batch.

    Attributes:
        kept: for each rule set that keeps something.
        watched: every sample of the watch points in arrival order; `signal` is the watch point.
    """

    kept: list[Kept]
    watched: SignalBatch


def recorder_set(recorder: Recorder) -> RuleSet:
    """Return the rule set that the recorder is; how long it keeps is the window's matter."""
    return RuleSet(
        recorder.why.recipients, sealed_pb2.RECORDER, recorder.resolution_ns,
        keep_order=False, flush_ns=recorder.flush_ns, keep_s=0,
    )  # fmt: skip


class Engine:
    """Decides for one policy.

    Args:
        policy: as `load_policy` returned it.
        channels: names of the buses by number; may grow.
        silent: categories whose consent is not given: their rules with basis "consent" are left
            out.

    Attributes:
        rule_sets: all sets of the policy.
    """

    def __init__(
        self, policy: Policy, channels: ChannelTable, silent: frozenset[str] = frozenset()
    ) -> None:
        self.policy = policy
        self._rules = [
            rule for rule in policy.rules if rule.basis != "consent" or rule.category not in silent
        ]
        selectors: dict[RuleSet, list[FrameSelector]] = {}
        for rule in self._rules:
            selectors.setdefault(rule_set_of(rule), []).extend(rule.frames)
        raw = {rule.id: rule.frames for rule in self._rules}
        if policy.recorder is not None:
            selectors[recorder_set(policy.recorder)] = list(policy.recorder.frames)
            raw[RECORDER_RULE] = policy.recorder.frames
        self.rule_sets: tuple[RuleSet, ...] = tuple(selectors)
        self._selectors = list(selectors.values())
        self._watch = watch_points(policy)
        self._channels = channels
        self._ready: tuple[tuple[str, ...], int] = ((), 0)
        self._sampler = Sampler(policy.layouts, self._wants(), len(selectors) + 1)
        self._frame_counts = FrameCounts(raw)
        self._place = _Place(policy)
        self._uncounted: FrameBatch | None = None  # the last batch

    @property
    def too_short(self) -> int:
        """Wanted samples that are missing because the frame is shorter than its DBC."""
        return self._sampler.too_short

    def decide(self, batch: FrameBatch) -> Decided:
        """Return what is kept of a batch, and what the clauses look at.

        Args:
            batch: frames in arrival order, channels numbered by the engine's table.
        """
        if not len(batch):
            return Decided([], np.zeros(0, SIGNAL))
        self._prepare(int(batch["channel"].max()) + 1)
        self._count()
        *samples, watched = self._sampler.take(batch)
        kept = []
        for number, rule_set in enumerate(self.rule_sets):
            frames = self._frames(number, batch)
            if len(frames) or len(samples[number]):
                kept.append(Kept(rule_set, frames, samples[number]))
        self._uncounted = batch
        return Decided(kept, watched)

    def without_place(self, kept: list[Kept]) -> list[Kept]:
        """Return what `decide` has just kept but for what tells where the car is.

        Out go the frames whose ids carry latitude or longitude, the samples of both, and whatever
        a rule of a category `location.*` names, no matter which other rule wants it too.
        """
        if self._uncounted is not None:
            here = self._place.in_frames(self._uncounted, *self._ready)
            self._uncounted = self._uncounted[~here]
            self._sampler.uncount(self._place.signals)
        left = []
        for part in kept:
            frames = part.frames[~self._place.in_frames(part.frames, *self._ready)]
            signals = part.signals[~self._place.signals[part.signals["signal"]]]
            if len(frames) or len(signals):
                left.append(Kept(part.rule_set, frames, signals))
        return left

    def counts(self) -> dict[str, tuple[int, int]]:
        """Return (frames, samples) that each rule kept since the last call; no rule without any.

        A frame or sample that two rules want counts for both. The recorder is RECORDER_RULE.
        """
        self._count()
        frames = self._frame_counts.take(self._channels.names)
        samples = {self._rules[at].id: count for at, count in self._sampler.counts().items()}
        return {
            rule: (frames.get(rule, 0), samples.get(rule, 0))
            for rule in dict.fromkeys((*frames, *samples))
        }

    def kernel_filters(self, channel: str) -> list[dict[str, Any]] | None:
        """Return python-can filters that let everything through that is wanted of a channel.

        Returns:
            None: everything is wanted. An empty list: nothing is.
        """
        spans: dict[bool, list[tuple[int, int]]] = {False: [], True: []}
        for frames in (one for some in self._selectors for one in some):
            if frames.channel in ("*", channel):
                if frames.every_id:
                    return None
                spans[frames.extended].append((frames.first_id, frames.last_id))
        groups: set[tuple[int, int]] = set()
        for signal in (*(one for rule in self._rules for one in rule.signals), *self._watch):
            if signal.channel in ("*", channel):
                layout = self.policy.layouts[signal.signal]
                if layout.free_bits:
                    groups.add((layout.arbitration_id, layout.free_bits))
                else:
                    spans[layout.extended].append((layout.arbitration_id, layout.arbitration_id))
        return kernel_filters(spans, groups)

    def _wants(self) -> list[Want]:
        numbers = {rule_set: number for number, rule_set in enumerate(self.rule_sets)}
        wants = [
            Want(
                numbers[rule_set_of(rule)], at, one.signal, one.signal, one.channel,
                _mode(rule), rule.every_ns, one.grain,
            )
            for at, rule in enumerate(self._rules)
            for one in rule.signals
        ]  # fmt: skip
        watched = len(self.rule_sets)
        return wants + [
            Want(watched, NOBODY, one.signal, number, one.channel)
            for number, one in enumerate(self._watch)
        ]

    def _prepare(self, count: int) -> None:
        """Make the tables fit the channels that there are now."""
        names = self._channels.names
        count = max(count, len(names), self._ready[1])
        if self._ready == (names, count):
            return
        self._ready = names, count
        self._sampler.prepare(names, count)
        self._masks = [FrameMask(some, names, count) for some in self._selectors]

    def _frames(self, number: int, batch: FrameBatch) -> FrameBatch:
        mask = self._masks[number]
        if mask.everything:
            return batch
        return batch[:0] if mask.nothing else batch[mask.wanted(batch)]

    def _count(self) -> None:
        """Count the last batch: only now is it known whether its places were taken out."""
        if self._uncounted is not None:
            self._frame_counts.add(self._uncounted)
            self._uncounted = None


def _mode(rule: Rule) -> int:
    return CHANGE if rule.on_change else EVERY if rule.every_ns else ALWAYS


class _Place:
    """What of a policy's data tells where the car is. Ids count on every bus: gateways copy."""

    def __init__(self, policy: Policy) -> None:
        rules = [rule for rule in policy.rules if rule.category.startswith(LOCATION)]
        numbers = {one.signal for rule in rules for one in rule.signals}
        if policy.camera is not None and (position := policy.camera.position) is not None:
            numbers |= {position.latitude.signal, position.longitude.signal}
        # Not np.isin: it imports numpy.ma, two megabytes that nothing else here needs.
        self.signals: Bools = np.array([one in numbers for one in range(len(policy.layouts))], bool)
        self._selectors = [one for rule in rules for one in rule.frames]
        for number in sorted(numbers):
            self._selectors += _carriers(policy.layouts[number])
        self._mask: FrameMask | None = None
        self._ready: tuple[tuple[str, ...], int] = ((), 0)

    def in_frames(self, batch: FrameBatch, names: tuple[str, ...], count: int) -> Bools:
        """Return which frames tell it."""
        if self._mask is None or self._ready != (names, count):
            self._ready = names, count
            self._mask = FrameMask(self._selectors, names, count)
        return self._mask.wanted(batch)


def _carriers(layout: SignalLayout) -> list[FrameSelector]:
    return [
        FrameSelector("*", first, last, extended=layout.extended, every_id=False)
        for first, last in ids_of(layout.arbitration_id, layout.free_bits)
    ]
