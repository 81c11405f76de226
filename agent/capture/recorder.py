"""From kept frames to segments: one open segment for each rule set. Pure: moments are arguments.

A segment is closed when its time is up (`flush_ns` of boot time after its first row), when it holds
16,384 rows, when it could exceed what fits into one message, or when the policy changes. So a
segment never mixes two policies, and nothing stays open longer than its rule says; nor does one
mix what was before the computer slept with what came after.

Segments of the recorder know their piece of the axis of recorded time (`recorded.py`); they adjoin.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from agent.capture.queue import Arrival
from agent.capture.recorded import Axis
from agent.capture.steady import Steady
from agent.frames import SIGNAL, FrameBatch, SignalBatch, concatenate
from agent.pb.moment_pb2 import Moment
from agent.pb.sealed_pb2 import RECORDER
from agent.policy.engine import Kept, RuleSet
from agent.vault.segment import Draft

MAX_ROWS: Final = 16_384
MAX_BYTES: Final = 240 << 10  # of a segment that does not compress: one message is 256 KiB at most
FRAME_COST: Final = 10  # bytes of a frame beside its data, at worst: stamp and order
SAMPLE_COST: Final = 18  # bytes of a sample, at worst: stamp, value, order


@dataclass(slots=True)
class _Open:
    """A segment that is being filled."""

    opened: Moment
    frames: list[FrameBatch]
    signals: list[SignalBatch]
    rows: int = 0
    cost: int = 0
    recorded: tuple[int, int] | None = None  # of the recorder's frames


class Recorder:
    """Collects what one policy keeps.

    Args:
        policy_hash: SHA-256 of the compiled policy.
        dictionary_hash: SHA-256 of its dictionary.
        axis: of recorded time; it goes on over policies.
    """

    def __init__(
        self, *, policy_hash: bytes, dictionary_hash: bytes, axis: Axis | None = None
    ) -> None:
        self._policy, self._dictionary = policy_hash, dictionary_hash
        self._axis = axis or Axis()
        self._open: dict[RuleSet, _Open] = {}

    def add(self, kept: list[Kept], channels: tuple[str, ...], now: Moment) -> list[Draft]:
        """Take what was kept of one batch; return the segments that it filled."""
        full: list[Draft] = []
        for part in kept:
            parts = slices(part.frames, frame_costs(part.frames))
            for frames, piece in zip(parts, self._pieces(part, parts), strict=True):
                full += self._put(part.rule_set, channels, now, frames=frames, recorded=piece)
            for signals in slices(part.signals, np.full(len(part.signals), SAMPLE_COST)):
                full += self._put(part.rule_set, channels, now, signals=signals)
        return full

    def _pieces(self, part: Kept, slices: list[FrameBatch]) -> Sequence[tuple[int, int] | None]:
        """Return the piece of the axis that each slice takes, if it is the recorder's."""
        if part.rule_set.lane != RECORDER or not slices:
            return [None] * len(slices)
        begin = self._axis.end_ns
        places = self._axis.take(part.frames["timestamp_ns"])
        ends = places[np.cumsum([len(one) for one in slices]) - 1].tolist()
        return list(zip([begin, *ends], ends, strict=False))

    def discard(self, category: str) -> int:
        """Throw away what is open under a consent that ended; return how many rows it was."""
        gone = [rule_set for rule_set in self._open if rule_set.consent == category]
        return sum(self._open.pop(rule_set).rows for rule_set in gone)

    def due(self, channels: tuple[str, ...], now: Moment, *, ahead_ns: int = 0) -> list[Draft]:
        """Return the segments whose time is up, or will be within `ahead_ns`."""
        return [
            self._close(rule_set, channels, now)
            for rule_set, segment in list(self._open.items())
            if now.boottime_ns - segment.opened.boottime_ns + ahead_ns >= rule_set.flush_ns
        ]

    def flush(self, channels: tuple[str, ...], now: Moment) -> list[Draft]:
        """Return every open segment: at a policy change and at the end."""
        return [self._close(rule_set, channels, now) for rule_set in list(self._open)]

    def _put(
        self,
        rule_set: RuleSet,
        channels: tuple[str, ...],
        now: Moment,
        *,
        frames: FrameBatch | None = None,
        signals: SignalBatch | None = None,
        recorded: tuple[int, int] | None = None,
    ) -> list[Draft]:
        rows = len(frames) if frames is not None else len(signals) if signals is not None else 0
        cost = rows * SAMPLE_COST if frames is None else int(frame_costs(frames).sum())
        closed: list[Draft] = []
        segment = self._open.get(rule_set)
        if segment and (
            segment.rows + rows > MAX_ROWS
            or segment.cost + cost > MAX_BYTES
            or now.boottime_ns - segment.opened.boottime_ns >= rule_set.flush_ns
        ):
            closed.append(self._close(rule_set, channels, now))
            segment = None
        if segment is None:
            segment = self._open[rule_set] = _Open(now, [], [])
        if frames is not None:
            segment.frames.append(frames)
        if signals is not None:
            segment.signals.append(signals)
        if recorded is not None:
            segment.recorded = (segment.recorded or recorded)[0], recorded[1]
        segment.rows += rows
        segment.cost += cost
        return closed

    def _close(self, rule_set: RuleSet, channels: tuple[str, ...], now: Moment) -> Draft:
        segment = self._open.pop(rule_set)
        return Draft(
            frames=concatenate(segment.frames),
            signals=np.concatenate(segment.signals) if segment.signals else np.zeros(0, SIGNAL),
            channels=channels,
            recipients=rule_set.recipients,
            lane=rule_set.lane,
            resolution_ns=rule_set.resolution_ns,
            keep_order=rule_set.keep_order,
            opened=segment.opened,
            closed=now,
            policy=self._policy,
            dictionary=self._dictionary,
            keep_s=rule_set.keep_s,
            recorded=segment.recorded,
            consent=rule_set.consent,
        )


def frame_costs(frames: FrameBatch) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Return the bytes that each frame takes at worst."""
    return frames["length"].astype(np.int64) + FRAME_COST


def slices(rows: FrameBatch, costs: np.ndarray[tuple[int], np.dtype[np.int64]]) -> list[FrameBatch]:
    """Return rows cut into parts that each fit into one segment."""
    if len(rows) <= MAX_ROWS and int(costs.sum()) <= MAX_BYTES:
        return [rows] if len(rows) else []
    half = len(rows) // 2
    return slices(rows[:half], costs[:half]) + slices(rows[half:], costs[half:])


def merge(arrivals: list[Arrival], steady: Steady | None = None) -> FrameBatch:
    """Return one batch in the order of the stamps, never changing the order within one source.

    Readers run side by side, so the order in which their batches come says nothing; the kernel's
    stamps do, once the settings of the clock are taken out. A source whose stamps step back all
    the same is placed by the highest stamp it has shown so far.

    Args:
        arrivals: of one step.
        steady: knows when the clock was set; None: nobody looks.
    """
    told = steady or Steady()
    batches = []
    for source in sorted({arrival.source for arrival in arrivals}):
        mine = concatenate([arrival.batch for arrival in arrivals if arrival.source == source])
        told.follow(source, mine["timestamp_ns"])
        batches.append(mine)
    if len(batches) <= 1:
        return concatenate(batches)
    stamps = [told.stamps(batch["timestamp_ns"]) for batch in batches]
    place = np.concatenate([np.maximum.accumulate(one) for one in stamps])
    return concatenate(batches)[np.argsort(place, kind="stable")]
