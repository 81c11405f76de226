"""Batches that wait to be decided about, together. Pure: moments are arguments.

Batches whose place may be kept, and those whose place may not, are never mixed.
"""

from __future__ import annotations

from agent.frames import FrameBatch, concatenate
from agent.pb.moment_pb2 import Moment


class Pending:
    """The batches since the last decision.

    Attributes:
        rows: frames that wait.
        last: when the last batch came, be it empty; None: nothing came since the last decision.
    """

    def __init__(self) -> None:
        self.rows = 0
        self.last: Moment | None = None
        self._runs: list[tuple[list[FrameBatch], Moment, bool]] = []

    def add(self, batch: FrameBatch, now: Moment, *, hidden: bool) -> None:
        """Put a batch to those that wait.

        Args:
            batch: frames in arrival order.
            now: when it was taken.
            hidden: what tells the position in it is not to be kept.
        """
        self.last = now
        if not len(batch):
            return
        self.rows += len(batch)
        if self._runs and self._runs[-1][2] == hidden:
            self._runs[-1][0].append(batch)
        else:
            self._runs.append(([batch], now, hidden))

    def take(self) -> list[tuple[FrameBatch, Moment, bool]]:
        """Return what waits: (frames, when the first of them came, hidden), and begin anew."""
        found = [(concatenate(batches), since, hidden) for batches, since, hidden in self._runs]
        self.__init__()  # type: ignore[misc]
        return found
