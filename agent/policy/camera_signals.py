"""What the camera gate reads from the stream: positions that can be trusted, speed, triggers.

- Moments are on the caller's clock: the last sample of a batch came when the batch ended, the
  others as much earlier as their stamps say, but never before the batch began.
- Samples of one frame have one stamp, channel and arbitration id, and rising watch points. A
  trigger is a frame that holds all four signals.
- A position is a latitude and a longitude that came within 1 s, while the policy's `fix` condition
  was true and not older than `no_fix`: a receiver that no longer says how good it is, is not good.

Pure but for what it remembers.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from typing import Final

import numpy as np

from agent.frames import SignalBatch
from agent.policy.clauses import Condition, Position, SignalSelector
from agent.policy.conditions import Conditions
from agent.policy.model import Policy, watch_points
from agent.policy.physical import Ints
from agent.policy.watching import Watched, Watching

TOGETHER_NS: Final = 10**9
SPEED_NS: Final = 2 * 10**9  # an older speed is not known
KMH: Final = 3.6
NONE: Final = -1  # a watch point that the policy has not


@dataclass(frozen=True, slots=True)
class Trigger:
    """Raw values of one frame of a camera controller; the stamp as the frame has it, ns."""

    stamp_ns: int
    camera: int
    reason: int
    state: int
    clip: int


@dataclass(frozen=True, slots=True)
class Sighting:
    """What one frame has to say.

    Attributes:
        at_ns: when, on the caller's clock.
        speed: of the car then, m/s; None if not known.
        position: latitude and longitude in degrees, if they can be trusted; maybe out of range.
        trigger: if it is one.
    """

    at_ns: int
    speed: float | None
    position: tuple[float, float] | None
    trigger: Trigger | None


class CameraSignals:
    """Reads the samples of one policy's watch points.

    Args:
        policy: with a [camera].

    Attributes:
        now_ns: the end of the last batch; None before the first.
    """

    def __init__(self, policy: Policy) -> None:
        assert policy.camera is not None
        self.now_ns: int | None = None
        self._watching = Watching(policy)
        numbers = {selector: number for number, selector in enumerate(watch_points(policy))}
        trigger, place = policy.camera.trigger, policy.camera.position
        self._trigger: tuple[int, ...] = ()
        if trigger is not None:
            of = (trigger.camera, trigger.reason, trigger.state, trigger.clip)
            self._trigger = tuple(numbers[selector] for selector in of)
        self._latitude, self._longitude, self._speed_of = _place_numbers(place, numbers)
        wanted = (self._latitude, self._longitude, *self._trigger[:1])
        self._wanted = [point for point in wanted if point != NONE]
        self._fix = _Fix(policy, place, policy.camera.no_fix_ns)
        self._speed: tuple[int, float] | None = None  # when, m/s
        self._halves: dict[int, tuple[int, float]] = {}  # latitude and longitude: when, degrees

    def read(self, watched: SignalBatch | Watched, now_ns: int) -> list[Sighting]:
        """Return what the frames of a batch say, in order.

        Args:
            watched: samples of the watch points, in arrival order.
            now_ns: when the batch ended; an earlier moment than before counts as the last one.
        """
        begin = self.now_ns
        self.now_ns = now_ns = now_ns if begin is None else max(now_ns, begin)
        if not len(watched):
            return []
        if not isinstance(watched, Watched):
            watched = self._watching.batch(watched)
        stamps = watched.samples["timestamp_ns"]
        at: Ints = now_ns - (stamps.max() - stamps)
        at = np.maximum.accumulate(at if begin is None else np.maximum(at, begin))
        speeds = self._speeds(watched, at)
        self._fix.update(watched, at)
        values: dict[int, float] = {}  # physical ones of the rows that matter
        for point in self._wanted:
            rows, samples = watched.of(point)
            values |= zip(rows.tolist(), samples.value.tolist(), strict=True)
        if not values:
            return []
        edges = [0, *(watched.frame_ends() + 1).tolist()]
        frames = dict.fromkeys(bisect_right(edges, row) for row in sorted(values))
        return [
            self._sighting(
                watched.samples, slice(edges[frame - 1], edges[frame]), at, speeds, values
            )
            for frame in frames
        ]

    def speed(self, at_ns: int) -> float | None:
        """Return the last speed in m/s; None if at `at_ns` it is too old, or there was none."""
        return _fresh(self._speed, at_ns)

    def _speeds(self, watched: Watched, at: Ints) -> list[tuple[int, float]]:
        """Return (when, m/s), the last one of the batch before first."""
        known = [] if self._speed is None else [self._speed]
        if self._speed_of != NONE:
            rows, samples = watched.of(self._speed_of)
            known += zip(at[rows].tolist(), (samples.value / KMH).tolist(), strict=True)
        self._speed = known[-1] if known else None
        return known

    def _sighting(
        self, samples: SignalBatch, rows: slice, at: Ints, speeds: list[tuple[int, float]],
        values: dict[int, float],
    ) -> Sighting:  # fmt: skip
        at_ns = int(at[rows.start])
        points = samples["signal"][rows].tolist()
        while len(speeds) > 1 and speeds[1][0] <= at_ns:
            del speeds[0]
        known = speeds[0] if speeds and speeds[0][0] <= at_ns else None
        position = self._position(dict(zip(points, range(rows.start, rows.stop), strict=True)),
                                  values, at_ns)  # fmt: skip
        if position is not None and not self._fix.vouches(rows.stop, at_ns):
            position = None
        trigger = None
        if self._trigger and all(point in points for point in self._trigger):
            raw = dict(zip(points, samples["raw"][rows].tolist(), strict=True))
            stamp_ns = int(samples["timestamp_ns"][rows.start])
            trigger = Trigger(stamp_ns, *(raw[point] for point in self._trigger))
        return Sighting(at_ns, _fresh(known, at_ns), position, trigger)

    def _position(
        self, rows: dict[int, int], values: dict[int, float], at_ns: int
    ) -> tuple[float, float] | None:
        """Return the position that a frame completes."""
        mine = [half for half in (self._latitude, self._longitude) if half in rows]
        for half in mine:
            self._halves[half] = (at_ns, values[rows[half]])
        if not mine or len(self._halves) < 2:
            return None
        latitude, longitude = self._halves[self._latitude], self._halves[self._longitude]
        if abs(latitude[0] - longitude[0]) > TOGETHER_NS:
            return None
        return latitude[1], longitude[1]


class _Fix:
    """The `fix` condition: whether positions can be trusted, and when that was last said."""

    def __init__(self, policy: Policy, place: Position | None, no_fix_ns: int) -> None:
        self._conditions = Conditions([] if place is None else [place.fix], policy)
        self._points = [] if place is None else _numbers_of(place.fix, policy)
        self._no_fix_ns = no_fix_ns
        # Row of the batch, moment, truth; the last one before the batch first.
        self._truths: list[tuple[int, int, bool]] = [(NONE, 0, False)]

    def update(self, watched: Watched, at: Ints) -> None:
        """Take a batch, and the moment of each of its samples."""
        self._truths = [(NONE, *self._truths[-1][1:])]
        for truth in self._conditions.update(watched):
            if truth.never or truth.always:  # then no frame has to be told from another
                rows = sorted(row for one in self._points for row in watched.of(one)[0].tolist())
                said = [truth.always] * len(rows)
            else:
                rows, said = truth.row.tolist(), truth.true.tolist()
            self._truths += zip(rows, at[rows].tolist(), said, strict=True)

    def vouches(self, row: int, at_ns: int) -> bool:
        """Return whether a position before a row of the batch can be trusted."""
        past = bisect_left(self._truths, row, key=lambda one: one[0])
        _, when, true = self._truths[past - 1]
        return true and at_ns - when < self._no_fix_ns


def _place_numbers(
    place: Position | None, numbers: dict[SignalSelector, int]
) -> tuple[int, int, int]:
    if place is None:
        return NONE, NONE, NONE
    return numbers[place.latitude], numbers[place.longitude], numbers[place.speed]


def _numbers_of(condition: Condition, policy: Policy) -> list[int]:
    """Return the watch points that a condition names."""
    points = watch_points(policy)
    return sorted({points.index(selector) for _, selector in condition.terms})


def _fresh(speed: tuple[int, float] | None, at_ns: int) -> float | None:
    return speed[1] if speed is not None and at_ns - speed[0] <= SPEED_NS else None
