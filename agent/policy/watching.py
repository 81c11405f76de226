"""Samples of watch points, put in order for those who look at them: by frame and by watch point.

A frame's samples stand together, share stamp, channel and arbitration id, and their watch points
rise. (Two multiplexed frames of one id, channel and stamp are one if their watch points rise
through both; on a bus they cannot have one stamp.)

Pure but for what `Latest` remembers.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Final

import numpy as np

from agent.frames import SIGNAL, SignalBatch
from agent.pb import record_pb2
from agent.policy.clauses import SignalSelector
from agent.policy.instants import NO_SAMPLES, Found, Instants, Samples
from agent.policy.model import SIGNED, UNSIGNED, Policy, watch_points
from agent.policy.physical import Ints, Scales
from agent.policy.stretches import runs
from agent.policy.windows import FRESH_NS, known

# A sample that is stamped up to this after now is out of order, not of another clock.
BACK_NS: Final = 10**9
_WORDS: Final = SIGNAL.itemsize // 8  # of a row of a SignalBatch: stamp; signal, channel; raw
_POINT: Final = 0xFFFF
_NOWHERE: Final = slice(0, 0)


class Watching:
    """Puts batches of a policy's watch points in order."""

    def __init__(self, policy: Policy) -> None:
        signals = [point.signal for point in watch_points(policy)]
        layouts = [policy.layouts[signal] for signal in signals]
        self.carrier: Ints = np.array(
            [one.arbitration_id << 1 | one.extended for one in layouts], np.int64
        )
        self.scales = Scales([policy.signals[signal] for signal in signals])

    def batch(self, watched: SignalBatch) -> Watched:
        """Return a batch in order; it has at least one sample."""
        with np.errstate(all="ignore"):  # bits of floats may be NaNs of any sort
            return Watched(self, watched)


class Watched:
    """A batch in order.

    Attributes:
        samples: as they came.
        in_order: whether no stamp is below the one before.
    """

    def __init__(self, watching: Watching, watched: SignalBatch) -> None:
        self.samples = watched
        self._carriers = watching.carrier
        words = np.ascontiguousarray(watched).view(np.int64).reshape(-1, _WORDS)
        self._stamp = stamp = words[:, 0]
        self.in_order = bool((stamp[1:] >= stamp[:-1]).all())
        self._order = watched["signal"].argsort(kind="stable")
        words = words[self._order]
        self._t, point, self._raw = words[:, 0], words[:, 1] & _POINT, words[:, 2]
        self._value = known(watching.scales.values(self._raw, point))
        self._of_frames: tuple[Ints, Ints] | None = None
        self._places: dict[int, slice] = {}
        self._samples: dict[int, Samples] = {}
        self._by_point(point)

    def _by_point(self, point: Ints) -> None:
        """Find the samples of each watch point."""
        starts, sizes = runs(point)
        ends = starts + sizes
        columns = (
            point[starts], starts, ends, np.minimum.reduceat(self._value, starts),
            np.maximum.reduceat(self._value, starts), self._t[starts], self._t[ends - 1],
        )  # fmt: skip
        for one, begin, end, *more in zip(*(one.tolist() for one in columns), strict=True):
            here = self._places[one] = slice(begin, end)
            self._samples[one] = Samples(self._t[here], self._raw[here], self._value[here], *more)

    def instants(self, points: Sequence[int]) -> Instants | None:
        """Return the frames that hold a sample of one of some watch points; None: there are none.

        Their first and last stamps are right if the batch is in order.
        """
        samples = [self._samples.get(point, NO_SAMPLES) for point in points]
        if all(one is NO_SAMPLES for one in samples):
            return None
        return Instants(samples, partial(self._find, points))

    def __len__(self) -> int:
        return len(self.samples)

    def of(self, point: int) -> tuple[Ints, Samples]:
        """Return the rows of a watch point's samples, rising, and the samples."""
        here = self._places.get(point, _NOWHERE)
        return self._order[here], self._samples.get(point, NO_SAMPLES)

    def frame_ends(self) -> Ints:
        """Return the last row of each frame."""
        return self._frames()[1]

    def _find(self, points: Sequence[int]) -> Found:
        """Return stamps, rows and the instants of each watch point's samples."""
        sorted_frames, rows = self._frames()
        frames = [sorted_frames[self._places.get(one, _NOWHERE)] for one in points]
        found = np.zeros(len(rows), np.bool_)
        for one in frames:
            found[one] = True
        here = found.nonzero()[0]
        rows = rows[here]
        places = [None if len(one) == len(here) else here.searchsorted(one) for one in frames]
        return self._stamp[rows], rows, places

    def _frames(self) -> tuple[Ints, Ints]:
        """Return the frame of each sample, point by point, and the last row of each frame."""
        if self._of_frames is None:
            stamp, point = self._stamp, self.samples["signal"]
            carrier = self._carriers[point] << 8 | self.samples["channel"]
            step = stamp[1:] != stamp[:-1]
            step |= carrier[1:] != carrier[:-1]
            step |= point[1:] <= point[:-1]
            frame = np.zeros(len(point), np.int64)
            np.cumsum(step, out=frame[1:])
            rows = np.append(step.nonzero()[0], len(point) - 1)
            self._of_frames = frame[self._order], rows
        return self._of_frames


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
