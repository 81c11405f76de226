"""Samples of watch points, put in order for those who look at them: by frame and by watch point.

A frame's samples stand together, share stamp, channel and arbitration id, and their watch points
rise. (Two multiplexed frames of one id, channel and stamp are one if their watch points rise
through both; on a bus they cannot have one stamp.)

Pure but for what `Latest` remembers.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from agent.frames import SignalBatch
from agent.pb import record_pb2
from agent.policy.clauses import SignalSelector
from agent.policy.model import SIGNED, UNSIGNED, Policy, watch_points
from agent.policy.physical import Floats, Ints, Scales
from agent.policy.windows import FRESH_NS

BACK_NS = (
    10**9
)  # a sample that is stamped up to this after now is out of order, not of another clock


class Watching:
    """Puts batches of a policy's watch points in order."""

    def __init__(self, policy: Policy) -> None:
        signals = [point.signal for point in watch_points(policy)]
        layouts = [policy.layouts[signal] for signal in signals]
        self.points = len(signals)
        self.carrier: Ints = np.array(
            [one.arbitration_id << 1 | one.extended for one in layouts], np.int64
        )
        self.scales = Scales([policy.signals[signal] for signal in signals])

    def batch(self, watched: SignalBatch) -> Watched:
        """Return a batch in order; it has at least one sample."""
        return Watched(self, watched)


class Watched:
    """A batch in order. Frames are numbered from 0.

    Attributes:
        stamps: of each frame.
        rows: of each frame, the row of its last sample in the batch.
    """

    def __init__(self, watching: Watching, watched: SignalBatch) -> None:
        point = watched["signal"].astype(np.int64)
        stamp = np.ascontiguousarray(watched["timestamp_ns"])
        raw = np.ascontiguousarray(watched["raw"])
        of = watching.carrier[point] << 8 | watched["channel"]
        is_first = np.ones(len(watched), np.bool_)
        is_first[1:] = (stamp[1:] != stamp[:-1]) | (of[1:] != of[:-1]) | (point[1:] <= point[:-1])
        frame = np.cumsum(is_first) - 1
        self.rows: Ints = np.append(np.flatnonzero(is_first)[1:], len(watched)) - 1
        self.stamps: Ints = stamp[self.rows]
        order = np.argsort(point, kind="stable")
        self._frame, self._raw = frame[order], raw[order]
        self._value = watching.scales.values(raw, point)[order]
        ends = np.cumsum(np.bincount(point, minlength=watching.points))
        self._ends: list[int] = [0, *ends.tolist()]

    def samples(self, point: int) -> tuple[Ints, Ints, Floats]:
        """Return (frame, raw, physical value) of the samples of a watch point."""
        here = slice(self._ends[point], self._ends[point + 1])
        return self._frame[here], self._raw[here], self._value[here]

    def frames(self, points: Sequence[int]) -> Ints:
        """Return the frames that hold a sample of one of some watch points, rising."""
        some = [point for point in points if self._ends[point] < self._ends[point + 1]]
        if len(some) < 2:
            return self.samples(some[0])[0] if some else self._frame[:0]
        found = np.zeros(len(self.rows), np.bool_)
        for point in some:
            found[self.samples(point)[0]] = True
        return np.flatnonzero(found)


class Latest:
    """What each watch point said last: the snapshot of an event, as things were at its trigger."""

    def __init__(self, policy: Policy) -> None:
        self._number = {selector: number for number, selector in enumerate(watch_points(policy))}
        self._signals = policy.signals
        self._stamp: Ints = np.zeros(len(self._number), np.int64)
        self._raw: Ints = np.zeros(len(self._number), np.int64)
        self._seen = np.zeros(len(self._number), np.bool_)
        self._batch: SignalBatch | None = None

    def update(self, watched: SignalBatch) -> None:
        """Go on to a batch; `snapshot` is asked of it from now on."""
        before = self._batch
        if before is not None:
            point = before["signal"]
            self._seen[point] = True
            # Of several samples of one watch point the last assignment stays.
            self._stamp[point], self._raw[point] = before["timestamp_ns"], before["raw"]
        self._batch = watched

    def snapshot(
        self, selectors: Sequence[SignalSelector], at_ns: int, *, row: int | None = None
    ) -> list[record_pb2.Value]:
        """Return what some watch points said last.

        Args:
            selectors: watch points of the policy; whole numbers are rounded down to their grain.
            at_ns: stamp to which their ages count.
            row: of the batch, the last one to be looked at; None: all of it.
        """
        batch = self._batch
        if batch is not None and row is not None:
            batch = batch[: row + 1]
        return [self._value(selector, at_ns, batch) for selector in selectors]

    def _value(
        self, selector: SignalSelector, at_ns: int, batch: SignalBatch | None
    ) -> record_pb2.Value:
        number = self._number[selector]
        seen = bool(self._seen[number])
        stamp, raw = int(self._stamp[number]), int(self._raw[number])
        if batch is not None and len(rows := np.flatnonzero(batch["signal"] == number)):
            seen = True
            stamp, raw = int(batch["timestamp_ns"][rows[-1]]), int(batch["raw"][rows[-1]])
        value = record_pb2.Value(signal=selector.signal, channel=selector.channel)
        age_ns = at_ns - stamp
        value.missing = not seen or not -BACK_NS <= age_ns <= FRESH_NS
        if not value.missing:
            value.raw = _coarse(raw, selector.grain, self._signals[selector.signal].kind)
            value.age_ms = max(0, age_ns) // 10**6
        return value


def _coarse(raw: int, grain: int, kind: int) -> int:
    """Return a raw value rounded down to a multiple of its grain, in the 64 bits that it came in."""
    if not grain or kind not in (UNSIGNED, SIGNED):
        return raw
    if kind == UNSIGNED:
        raw &= 2**64 - 1
    raw -= raw % grain
    return raw - 2**64 if raw >= 2**63 else raw
