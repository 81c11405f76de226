"""The axis of recorded time: how much driving the recorder has seen since the log began, in ns.

It is made of the stamps of the recorder's frames and of nothing else. A frame moves the axis on by
the time since the one before; a gap of more than 10 s moves it by nothing, and so does a step back.
So a parked car keeps its last drive, and a wall clock that is set does not empty the window: what
is known of settings (`steady.py`) is taken out of the stamps first.

A frame up to 1 s older than the one before is a late one of another bus: the highest stamp stands.
One that is older still tells of a clock that was set back: time goes on from there.

Pure but for where it stands.
"""

from __future__ import annotations

from collections import deque
from itertools import pairwise
from typing import Final

import numpy as np
import numpy.typing as npt

from agent.capture.steady import Steady

Ints = npt.NDArray[np.int64]

GAP_NS: Final = 10 * 10**9
LATE_NS: Final = 10**9
REMEMBERED: Final = 64  # batches, of which an event may speak


class Axis:
    """Recorded time, growing.

    Args:
        end_ns: where it ended when it was last stored.
        steady: knows when the clock was set; None: nobody looks.
    """

    def __init__(self, end_ns: int = 0, steady: Steady | None = None) -> None:
        self.end_ns = end_ns
        self.steady = steady or Steady()
        self._last_ns = 0  # stamp of the last frame
        self._high_ns: int | None = None  # highest stamp since the last step back
        # (first stamp, first place, last place) of the latest stretches without a step back.
        self._stretches: deque[tuple[int, int, int]] = deque(maxlen=REMEMBERED)

    def take(self, stamps: Ints) -> Ints:
        """Move on by some frames of the recorder; return where each of them stands.

        Args:
            stamps: of the frames in arrival order, ns; at least one.
        """
        stamps = self.steady.stamps(stamps)
        highest = stamps.copy()
        cuts = np.flatnonzero(stamps[1:] < stamps[:-1] - LATE_NS) + 1
        begins = [0, *cuts.tolist(), len(stamps)]
        for begin, end in pairwise(begins):
            if begin == 0 and self._high_ns is not None and stamps[0] >= self._last_ns - LATE_NS:
                highest[0] = max(int(stamps[0]), self._high_ns)
            np.maximum.accumulate(highest[begin:end], out=highest[begin:end])
        before = highest[0] if self._high_ns is None else self._high_ns
        steps = np.diff(highest, prepend=before)
        steps[(steps < 0) | (steps > GAP_NS)] = 0
        places: Ints = self.end_ns + np.cumsum(steps)
        self._high_ns, self.end_ns = int(highest[-1]), int(places[-1])
        self._last_ns = int(stamps[-1])
        for begin, end in list(pairwise(begins))[-REMEMBERED:]:
            self._stretches.append((int(highest[begin]), int(places[begin]), int(places[end - 1])))
        return places

    def at(self, stamp_ns: int) -> int:
        """Return where a moment of the last batches stands.

        Before all that is remembered is its beginning, after the last frame the end of the axis.
        """
        stamp_ns = self.steady.stamp(stamp_ns)
        for first_ns, begin, end in reversed(self._stretches):
            if stamp_ns >= first_ns:
                return min(end, begin + stamp_ns - first_ns)
        return self._stretches[0][1] if self._stretches else self.end_ns
