"""Samples of watch points, put in order for those who look at them: by frame and by watch point.

A frame's samples stand together, share stamp, channel and carrier (the arbitration id, or the J1939
group), and their watch points rise. (Two multiplexed frames of one id, channel and stamp are one if
their watch points rise through both; on a bus they cannot have one stamp.)

Pure but for what `Latest` remembers.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from agent.frames import SignalBatch
from agent.pb import record_pb2
from agent.policy.clauses import SignalSelector
from agent.policy.j1939 import carriers
from agent.policy.model import SIGNED, UNSIGNED, Policy, watch_points
from agent.policy.physical import Floats, Ints, Scales
from agent.policy.windows import FRESH_NS, known

BACK_NS = (
    10**9
)  # a sample that is stamped up to this after now is out of order, not of another clock


class Watching:
    """Puts batches of a policy's watch points in order."""

    def __init__(self, policy: Policy) -> None:
        signals = [point.signal for point in watch_points(policy)]
        layouts = [policy.layouts[signal] for signal in signals]
        self.points = len(signals)
        self.carrier: Ints = np.array(carriers(layouts), np.int64)
        self.scales = Scales([policy.signals[signal] for signal in signals])

    def batch(self, watched: SignalBatch) -> Watched:
        """Return a batch in order; it has at least one sample."""
        return Watched(self, watched)


Places = tuple[Ints | None, Ints, Floats]  # instants (None: all), raw values, values


class Watched:
    """A batch in order.

    Attributes:
        in_order: whether no stamp is below the one before.
    """

    def __init__(self, watching: Watching, watched: SignalBatch) -> None:
        point = watched["signal"].astype(np.int64)
        stamp = np.ascontiguousarray(watched["timestamp_ns"])
        raw = np.ascontiguousarray(watched["raw"])
        of = watching.carrier[point] << 8 | watched["channel"]
        step = stamp[1:] != stamp[:-1]
        self.in_order = bool((stamp[1:] >= stamp[:-1]).all())
        step |= of[1:] != of[:-1]
        step |= point[1:] <= point[:-1]
        ends = np.concatenate((np.flatnonzero(step), (len(watched) - 1,)))
        self._stamps, self._rows = stamp[ends], ends  # of each frame; its last row
        order = point.argsort(kind="stable")
        frame = np.zeros(len(watched), np.int64)
        np.cumsum(step, out=frame[1:])
        self._frame, self._raw = frame[order], raw[order]
        self._value = known(watching.scales.values(raw, point))[order]
        self._sorted = self._stamps[self._frame], self._rows[self._frame]
        last = np.bincount(point, minlength=watching.points).cumsum()
        self._ends: list[int] = [0, *last.tolist()]

    def instants(self, points: Sequence[int]) -> tuple[Ints, Ints, list[Places]] | None:
        """Return the frames that hold a sample of one of some watch points; None: there are none.

        Returns:
            Stamp and last row of each of the frames; samples of each of the watch points.
        """
        ends = self._ends
        here = [slice(ends[point], ends[point + 1]) for point in points]
        some = [one for one in here if one.start < one.stop]
        if not some:
            return None
        if len(some) == 1:
            stamps, rows = (one[some[0]] for one in self._sorted)
            places = [None if one is some[0] else self._frame[:0] for one in here]
        else:
            found = np.zeros(len(self._rows), np.bool_)
            for one in some:
                found[self._frame[one]] = True
            frames = found.nonzero()[0]
            stamps, rows = self._stamps[frames], self._rows[frames]
            places = [
                None
                if one.stop - one.start == len(frames)
                else frames.searchsorted(self._frame[one])
                for one in here
            ]
        return (
            stamps,
            rows,
            [(at, self._raw[one], self._value[one]) for at, one in zip(places, here, strict=True)],
        )


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
    """Return a raw value rounded down to a multiple of its grain, in 64 bits as it came."""
    if not grain or kind not in (UNSIGNED, SIGNED):
        return raw
    if kind == UNSIGNED:
        raw &= 2**64 - 1
    raw -= raw % grain
    return raw - 2**64 if raw >= 2**63 else raw
