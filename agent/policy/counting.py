"""How many frames each rule wanted, counted so that it costs next to nothing while frames flow.

Frames fall into cells that every rule either wants whole or not at all: a channel's 11-bit id, a
stretch of 29-bit ids between two ends of selectors, error frames. Only the cells are counted; which
rule wants which is looked up when somebody asks, by the same masks that decide.

Pure but for the counts. One thread.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from agent.frames import ERROR, EXTENDED, FRAME, FrameBatch
from agent.policy.clauses import FrameSelector
from agent.policy.masks import FrameMask
from agent.policy.model import MAX_STANDARD

_TOO_LONG: Final = MAX_STANDARD + 1  # cell of 11-bit ids that are none
_ERRORS: Final = _TOO_LONG + 1  # cell of error frames; behind it stand the stretches


class FrameCounts:
    """Counts frames by cell.

    Args:
        selectors: of each rule that wants raw frames, by its id.
    """

    def __init__(self, selectors: Mapping[str, Sequence[FrameSelector]]) -> None:
        self._selectors = {rule: tuple(some) for rule, some in selectors.items() if some}
        ends = {
            end
            for some in self._selectors.values()
            for one in some
            if one.extended and not one.every_id
            for end in (one.first_id, one.last_id + 1)
        }
        self._ends: npt.NDArray[np.uint32] = np.array(sorted({0, *ends}), np.uint32)
        self._cells = _ERRORS + 1 + len(self._ends)
        self._found: npt.NDArray[np.int64] = np.zeros((0, self._cells), np.int64)

    def add(self, batch: FrameBatch) -> None:
        """Count the frames of a batch."""
        if not self._selectors or not len(batch):
            return
        channel, ids, flags = batch["channel"], batch["arbitration_id"], batch["flags"]
        if (more := int(channel.max()) + 1 - len(self._found)) > 0:
            self._found = np.pad(self._found, ((0, more), (0, 0)))
        cell = np.minimum(ids, _TOO_LONG).astype(np.int64)
        special = np.flatnonzero(flags & (EXTENDED | ERROR))
        if len(special):
            stretch = np.searchsorted(self._ends, ids[special], side="right")
            is_error = (flags[special] & ERROR) != 0
            cell[special] = np.where(is_error, _ERRORS, _ERRORS + stretch)
        np.add.at(self._found.reshape(-1), channel * np.int64(self._cells) + cell, 1)

    def take(self, names: tuple[str, ...]) -> dict[str, int]:
        """Return the frames of each rule that had some, and begin anew.

        Args:
            names: of the channels, by number.
        """
        channel, cell = np.nonzero(self._found)
        count = self._found[channel, cell]
        self._found[:] = 0
        if not len(cell):
            return {}
        # One frame of each cell that was met stands for all of it.
        stands = np.zeros(len(cell), FRAME)
        stands["channel"] = channel
        stretch = np.maximum(cell - _ERRORS - 1, 0)
        stands["arbitration_id"] = np.where(cell > _ERRORS, self._ends[stretch], cell)
        stands["flags"] = np.where(cell > _ERRORS, EXTENDED, np.where(cell == _ERRORS, ERROR, 0))
        many = max(len(self._found), len(names))
        totals = {
            rule: int(count[FrameMask(some, names, many).wanted(stands)].sum())
            for rule, some in self._selectors.items()
        }
        return {rule: total for rule, total in totals.items() if total}
