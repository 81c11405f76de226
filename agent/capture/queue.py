"""The one queue between the readers and the sealer: bounded in frames, full means counted loss.

A live bus cannot wait: what finds no room is lost and counted. A recorded log can: its reader waits
for room, so that a replay loses nothing.

Readers let frames gather and hand them over at common *ticks*, so that the sealer looks once at
what all of them bring: each look costs much the same for ten frames as for a thousand. A tick is
what of the 200 ms in which a camera gate has to close is left to the readers.
"""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass
from typing import Final

from agent.frames import FrameBatch

TICK_S: Final = 0.125


def until_tick(now_s: float) -> float:
    """Return how long it is to the next tick, in seconds; never 0.

    Args:
        now_s: of one clock for all readers.
    """
    return TICK_S - now_s % TICK_S


@dataclass(frozen=True, slots=True)
class Arrival:
    """One batch as one reader delivered it."""

    source: int  # which reader: rows of one source are in arrival order
    batch: FrameBatch


class FrameQueue:
    """Readers put, the sealer drains.

    Args:
        capacity: frames that may wait.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._waiting: deque[Arrival] = deque()
        self._frames = 0
        self._changed = threading.Condition()

    def put(self, arrival: Arrival) -> bool:
        """Add a batch; return False, without waiting, if there is no room for it."""
        with self._changed:
            if self._frames + len(arrival.batch) > self._capacity:
                return False
            self._add(arrival)
            return True

    def put_when_room(self, arrival: Arrival, timeout_s: float) -> bool:
        """Add a batch once there is room; return False if there is none within the time."""
        with self._changed:
            if not self._changed.wait_for(
                lambda: not self._frames or self._frames + len(arrival.batch) <= self._capacity,
                timeout_s,
            ):
                return False
            self._add(arrival)
            return True

    def wait(self, timeout_s: float) -> None:
        """Wait until something is there, at most so long."""
        with self._changed:
            self._changed.wait_for(lambda: bool(self._waiting), timeout_s)

    def _add(self, arrival: Arrival) -> None:
        self._waiting.append(arrival)
        self._frames += len(arrival.batch)
        self._changed.notify_all()

    def drain(self, max_frames: int) -> list[Arrival]:
        """Return what waits now, oldest first, at most about `max_frames` frames."""
        with self._changed:
            taken: list[Arrival] = []
            frames = 0
            while self._waiting and frames < max_frames:
                taken.append(self._waiting.popleft())
                frames += len(taken[-1].batch)
            self._frames -= frames
            if taken:
                self._changed.notify_all()
            return taken

    @property
    def frames(self) -> int:
        """Frames that wait now."""
        return self._frames
