"""Which frames of a batch carry wanted signals: a slot is one id of frames.

A table look-up for 11-bit ids, a search for 29-bit ones. Error and remote frames carry none.

Pure.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from agent.frames import ERROR, EXTENDED, REMOTE, FrameBatch
from agent.policy.model import MAX_STANDARD, SignalLayout
from agent.policy.signals import Ints

Slot = tuple[bool, int]  # 29 bits, arbitration id


def slot_of(layout: SignalLayout) -> Slot:
    """Return the slot of the frames that a signal is in."""
    return layout.extended, layout.arbitration_id


class Slots:
    """Finds slots.

    Args:
        slots: in order; a slot's number is its place.
    """

    def __init__(self, slots: Sequence[Slot]) -> None:
        self._of_standard = np.full(MAX_STANDARD + 2, -1, np.int64)
        for number, (extended, arbitration_id) in enumerate(slots):
            if not extended:
                self._of_standard[arbitration_id] = number
        wide = [arbitration_id for extended, arbitration_id in slots if extended]
        self._wide = np.array(wide, np.uint32)
        self._first_wide = len(slots) - len(wide)
        self._is_empty = not slots

    def carriers(self, batch: FrameBatch) -> tuple[Ints, Ints]:
        """Return (row, slot) of the frames that have one, in their order."""
        if self._is_empty:
            return np.zeros(0, np.int64), np.zeros(0, np.int64)
        ids, flags = batch["arbitration_id"], batch["flags"]
        slots = self._of_standard.take(np.minimum(ids, MAX_STANDARD + 1))
        special = (flags & (EXTENDED | ERROR | REMOTE)).nonzero()[0]
        if len(special):
            slots[special] = self._of_special(ids[special], flags[special])
        rows = (slots >= 0).nonzero()[0]
        return rows, slots[rows]

    def _of_special(self, ids: npt.NDArray[np.uint32], flags: npt.NDArray[np.uint8]) -> Ints:
        """Return the slots of frames that are no data frames with 11-bit ids; -1: none."""
        if not len(self._wide):
            return np.full(len(ids), -1)
        place = np.minimum(self._wide.searchsorted(ids), len(self._wide) - 1)
        hit = (self._wide[place] == ids) & (flags & (EXTENDED | ERROR | REMOTE) == EXTENDED)
        return np.where(hit, place + self._first_wide, -1)
