"""Which raw frames a set of rules wants: a table look-up for 11-bit ids, a search for 29-bit ones.

- An id selector never wants an error frame (its id holds error class bits); `<bus>:*` does.
- A remote frame is wanted by its id like a data frame.
- An id that is too long for its kind (a broken log) is wanted by `<bus>:*` alone.

Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from agent.frames import ERROR, EXTENDED, FrameBatch
from agent.policy.clauses import FrameSelector
from agent.policy.model import MAX_EXTENDED, MAX_STANDARD

Bools = npt.NDArray[np.bool_]
Span = tuple[int, int]

MAX_KERNEL_FILTERS: Final = 512  # CAN_RAW_FILTER_MAX, linux/can/raw.h
_TOO_LONG: Final = MAX_STANDARD + 1  # place in the table of 11-bit ids that are none
_ALL: Final = (0, 2**32 - 1)


def merge(spans: Iterable[Span]) -> list[Span]:
    """Return inclusive spans in order, with overlapping and adjoining ones made one."""
    merged: list[Span] = []
    for first, last in sorted(spans):
        if merged and first <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(merged[-1][1], last))
        else:
            merged.append((first, last))
    return merged


class FrameMask:
    """The wanted frames of one set of rules, for channels by number.

    Args:
        selectors: of all the rules of the set.
        channels: names by number.
        count: channel numbers to be ready for; at least the number of names.
    """

    def __init__(
        self, selectors: Sequence[FrameSelector], channels: tuple[str, ...], count: int
    ) -> None:
        names: list[str | None] = [*channels, *[None] * (count - len(channels))]
        self.nothing = not selectors
        self.everything = any(one.every_id and one.channel == "*" for one in selectors)
        self._every: Bools = np.zeros(count, np.bool_)
        self._standard: Bools = np.zeros((count, _TOO_LONG + 1), np.bool_)
        spans: list[Span] = []
        for number, name in enumerate(names):
            mine = [one for one in selectors if one.channel in ("*", name)]
            self._every[number] = any(one.every_id for one in mine)
            if self._every[number]:
                self._standard[number] = True
                spans.append((number << 32 | _ALL[0], number << 32 | _ALL[1]))
                continue
            for one in mine:
                if not one.extended:
                    self._standard[number, one.first_id : one.last_id + 1] = True
            wide = merge((one.first_id, one.last_id) for one in mine if one.extended)
            spans += [(number << 32 | first, number << 32 | last) for first, last in wide]
        self._first = np.array([first for first, _ in spans], np.int64)
        self._last = np.array([last for _, last in spans], np.int64)

    def wanted(self, batch: FrameBatch) -> Bools:
        """Return which rows are wanted."""
        flags, channel = batch["flags"], batch["channel"]
        ids = batch["arbitration_id"]
        mask: Bools = self._standard[channel, np.minimum(ids, _TOO_LONG)]
        special = np.flatnonzero(flags & (EXTENDED | ERROR))
        if len(special):
            mask[special] = self._search(channel[special], ids[special])
            errors = special[(flags[special] & ERROR) != 0]
            mask[errors] = self._every[channel[errors]]
        return mask

    def _search(self, channel: npt.NDArray[np.uint8], ids: npt.NDArray[np.uint32]) -> Bools:
        if not len(self._first):
            return np.zeros(len(ids), np.bool_)
        key = (channel.astype(np.int64) << 32) | ids
        place = np.searchsorted(self._first, key, side="right") - 1
        found: Bools = (place >= 0) & (key <= self._last[place])
        return found


def kernel_filters(
    spans: dict[bool, list[Span]], groups: Iterable[tuple[int, int]] = ()
) -> list[dict[str, Any]]:
    """Return python-can filters that pass the given ids, and few others if there are many.

    Args:
        spans: inclusive id ranges of 11-bit (False) and 29-bit (True) ids.
        groups: 29-bit ids and their free bits (see j1939.py).
    """
    filters = {
        extended: [
            {"can_id": base, "can_mask": top & ~(size - 1), "extended": extended}
            for first, last in merge(some)
            for base, size in _blocks(first, last)
        ]
        for extended, some in spans.items()
        for top in (MAX_EXTENDED if extended else MAX_STANDARD,)
    }
    filters[True] += [
        {"can_id": base, "can_mask": MAX_EXTENDED & ~free, "extended": True}
        for base, free in sorted(groups)
    ]
    # The kernel takes a limited number; the engine looks at every frame again anyway.
    for extended in sorted(filters, key=lambda kind: -len(filters[kind])):
        if sum(map(len, filters.values())) > MAX_KERNEL_FILTERS:
            filters[extended] = [{"can_id": 0, "can_mask": 0, "extended": extended}]
    return [one for kind in sorted(filters) for one in filters[kind]]


def _blocks(first: int, last: int) -> list[tuple[int, int]]:
    """Return (base, size) of the aligned powers of two that make up an inclusive range."""
    blocks = []
    while first <= last:
        size = (first & -first) or 1 << 29
        while size > last - first + 1:
            size >>= 1
        blocks.append((first, size))
        first += size
    return blocks
