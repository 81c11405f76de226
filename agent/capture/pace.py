"""When each frame of a recorded log is due. Pure.

Deadlines are absolute, counted from the first frame, so that lateness never adds up. Stamps out of
order do not stall: a frame that is late in the log is due with the one before it. A clock that was
set back inside the log (by more than a second) begins a new count at the same point in time. A
single stamp that is far ahead of both its neighbours is taken for the one before it.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

Stamps = npt.NDArray[np.int64]

_SET_BACK_NS: Final = 1_000_000_000


class Pace:
    """Deadlines of one log, batch after batch.

    Args:
        speed: 1.0 as recorded, 2.0 twice as fast.
    """

    def __init__(self, speed: float = 1.0) -> None:
        if not speed > 0:
            raise ValueError("speed must be above 0")
        self._speed = speed
        self._last: int | None = None  # recorded stamp of the frame before
        self._high = 0  # log time of the latest frame so far
        self._offset = 0  # log time minus recorded stamp, since the clock was last set back

    def deadlines(self, stamps: Stamps) -> Stamps:
        """Return ns after the start at which each frame is due; they never fall.

        Args:
            stamps: recorded, of the next batch.
        """
        if not len(stamps):
            return stamps
        if self._last is None:
            self._last = int(stamps[0])
            self._offset = -self._last
        before = np.concatenate((np.array([self._last], np.int64), stamps[:-1]))
        after = np.append(stamps[1:], stamps[-1])
        outlier = (stamps > after + _SET_BACK_NS) & (after >= before - _SET_BACK_NS)
        outlier &= stamps > before + _SET_BACK_NS
        stamps = np.where(outlier, before, stamps)
        before = np.concatenate((before[:1], stamps[:-1]))
        due = np.empty_like(stamps)
        cuts = np.flatnonzero(stamps < before - _SET_BACK_NS)
        for start, end in zip([0, *cuts], [*cuts, len(stamps)], strict=True):
            if start in cuts:
                self._offset = self._high - int(stamps[start])
            if start < end:
                part = np.maximum.accumulate(stamps[start:end] + self._offset)
                due[start:end] = np.maximum(part, self._high)
                self._high = int(due[end - 1])
        self._last = int(stamps[-1])
        return (due / self._speed).astype(np.int64)
