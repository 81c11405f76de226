"""Samples that were read in one pass, stretch by stretch: what the tracks of `wants.py` look at.

Pure.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from agent.frames import SIGNAL, FrameBatch, SignalBatch
from agent.policy.signals import Bools, Ints


@dataclass(frozen=True, slots=True)
class Stretches:
    """Samples of a pass, signal by signal and channel by channel, each in order; there is one.

    Attributes:
        size: of each stretch; it may be 0.
        start: where it begins.
        row: of each sample, the frame.
        stamp: of each sample.
        raw: of each sample.
        in_order: no stamp is below one before.
    """

    size: Ints
    start: Ints
    row: Ints
    stamp: Ints
    raw: Ints
    in_order: bool

    def all_are(self, of: Ints, raw: Ints) -> Bools:
        """Return whether all raw values of some stretches are these.

        Any answer for an empty one.
        """
        least, most = np.zeros((2, len(self.size)), np.int64)
        some = self.size > 0
        least[some] = np.minimum.reduceat(self.raw, self.start[some])
        most[some] = np.maximum.reduceat(self.raw, self.start[some])
        same: Bools = (least[of] == raw) & (most[of] == raw)
        return same

    def all_in_cell(self, of: Ints, period: Ints, cell: Ints) -> Bools:
        """Return whether all stamps of some stretches are surely in these cells of a period.

        Any answer for an empty one.
        """
        if not self.in_order:
            return np.zeros(len(of), np.bool_)
        first = np.minimum(self.start, len(self.raw) - 1)[of]
        last = np.maximum(self.start + self.size - 1, 0)[of]
        same: Bools = self.stamp[first] // period == cell
        same &= self.stamp[last] // period == cell
        return same


def runs(values: npt.NDArray[Any]) -> tuple[Ints, Ints]:
    """Return where runs of equal values begin, and how long they are; there is one."""
    cuts = (values[1:] != values[:-1]).nonzero()[0]
    bounds = np.zeros(len(cuts) + 2, np.int64)
    bounds[1:-1] = cuts
    bounds[1:-1] += 1
    bounds[-1] = len(values)
    return bounds[:-1], bounds[1:] - bounds[:-1]


def samples_of(batch: FrameBatch, row: Ints, label: Ints, raw: Ints) -> SignalBatch:
    """Return samples of the rows of a batch, under these numbers."""
    words = np.empty((len(row), 3), np.int64)  # a row of a SignalBatch is three words
    words[:, 0] = batch["timestamp_ns"][row]
    words[:, 1] = label | batch["channel"].astype(np.int64)[row] << 16
    words[:, 2] = raw
    return words.reshape(-1).view(SIGNAL)
